package publish

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/stream"
)

// Markers between the messages of a batch count for nothing, whether they have
// left the flight or not.
func TestAcknowledgementsOfABatchPassMarkers(t *testing.T) {
	t.Parallel()
	p := &StreamPublisher{run: run{window: 1}}
	for _, kind := range []event.Item{{Kind: event.KindEvent}, {Kind: event.KindMarker}, {Kind: event.KindEvent}, {Kind: event.KindEvent}} {
		p.flight.add(kind, "id")
		f, _ := p.flight.takeOff()
		f.acked = kind.Kind == event.KindMarker
	}
	b := newBatch("_INBOX.x", 1, 0, 1)
	for range 3 {
		b.next(false)
	}
	for i, wantHead := range []uint64{2, 3, 4} {
		p.ackBatch(b, uint64(i+1))
		for p.flight.first() != nil {
			p.flight.pop()
		}
		if p.flight.head != wantHead || b.acked != uint64(i+1) {
			t.Errorf("after acknowledgement %d the head is %d and %d are acknowledged, want %d and %d", i+1, p.flight.head, b.acked, wantHead, i+1)
		}
	}
	if got, want := b.next(true), "_INBOX.x.x-1.1.fail.4.2.$FI"; got != want {
		t.Errorf("next() = %s, want %s", got, want)
	}
}

// An acknowledgement speaks for so many messages and for no more: a batch that was
// cut short ends with one that looks as if all was well.
func TestBatchCutShort(t *testing.T) {
	t.Parallel()
	for answer, wantState := range map[string]streamState{
		`{"type":"ack","seq":5,"msgs":500}`:                            publishing,
		`{"stream":"S","seq":5,"batch":"x-1","count":5}`:               searching,
		`{"type":"gap","last_seq":5,"seq":7}`:                          searching,
		`{"type":"err","seq":6,"error":{"code":503,"err_code":10077}}`: searching,
	} {
		p := &StreamPublisher{
			state: publishing, inbox: "_INBOX.x", run: run{window: 1, batched: true},
			Problem: problem.New(part.Stream, error.Error), Log: zap.NewNop(), NC: &nats.Conn{}, Stream: streamS(),
		}
		p.batch = newBatch(p.inbox, 1, 0, batchFlow)
		for i := range 10 {
			p.flight.add(event.Item{Kind: event.KindEvent}, "id")
			p.flight.takeOff()
			p.batch.next(i == 9)
		}
		id := p.batch.id
		if !p.batchAnswered(&nats.Msg{Data: []byte(answer)}, id+".500.fail.10.2.$FI") {
			t.Fatalf("%s was not taken for an answer to the batch", answer)
		}
		want := 5
		if strings.Contains(answer, "gap") || strings.Contains(answer, "err") {
			want = 0 // they acknowledge nothing
		}
		acked := 0
		for n := range uint64(10) {
			if f := p.flight.at(n); f.acked {
				acked++
			}
		}
		if acked != want || p.state != wantState {
			t.Errorf("after %s %d messages are acknowledged and the publisher is %s, want %d and %s", answer, acked, p.state, want, wantState)
		}
	}
}

func TestParseFlow(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]batchAnswer{
		`{"type":"ack","seq":7,"msgs":500}`:   {Type: "ack", Sequence: 7, Messages: 500},
		`{"type":"ack","seq":0,"msgs":1}`:     {Type: "ack", Messages: 1},
		`{"type":"ack","seq":,"msgs":1}`:      {},
		`{"type":"ack","seq":7,"msgs":1}more`: {},
		`{"type":"gap","last_seq":7,"seq":9}`: {},
	} {
		if got, ok := parseFlow([]byte(body)); ok != (want.Type != "") || ok && got != want {
			t.Errorf("parseFlow(%s) = %+v, %t", body, got, ok)
		}
	}
}

// What ends a batch speaks for as many messages as it counts, what acknowledges a
// flow for those up to its number, and neither for all that were sent.
func TestBatchAnswersSpeakForWhatTheyCount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		closed     bool // the last message was sent as such
		acked      uint64
		knowsEnd   bool
	}{
		{"the whole batch", `{"stream":"S","seq":105,"batch":"x-1","count":5}`, true, 5, true},
		{"cut short", `{"stream":"S","seq":5,"batch":"x-1","count":3}`, true, 3, false},
		{"cut short before its end was sent", `{"stream":"S","seq":5,"batch":"x-1","count":5}`, false, 5, false},
		{"cut short before anything", `{"stream":"S","seq":900,"batch":"x-1"}`, true, 0, false},
		{"a flow", `{"type":"ack","seq":2,"msgs":2}`, true, 2, true},
		{"a gap", `{"type":"gap","last_seq":2,"seq":4}`, true, 0, false},
		{"an error", `{"type":"err","seq":3,"error":{"code":400,"err_code":10071,"description":"wrong last sequence"}}`, true, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &StreamPublisher{run: run{window: 5}, state: publishing, Log: zap.NewNop(),
				Problem: problem.New(part.Stream, error.Error), NC: new(nats.Conn), Stream: streamS()}
			p.batch = newBatch("_INBOX.x", 1, 0, 5)
			for i := range 5 {
				p.flight.add(event.Item{Kind: event.KindEvent}, "id")
				p.flight.takeOff()
				p.batch.next(i == 4 && tt.closed)
			}
			b := p.batch
			if !p.batchAnswered(&nats.Msg{Data: []byte(tt.body)}, "x-1.5.fail.5.2.$FI") {
				t.Fatal("the answer was not taken for one")
			}
			if b.acked != tt.acked || p.state.knowsEnd() != tt.knowsEnd {
				t.Errorf("%d acknowledged, knows the end: %t; want %d, %t", b.acked, p.state.knowsEnd(), tt.acked, tt.knowsEnd)
			}
		})
	}
}

func streamS() *EventStream {
	return NewEventStream(nil, "p", stream.Need{Config: jetstream.StreamConfig{Name: "S"}})
}

// Whoever hears an event knows where its acknowledgement goes, and can have there what
// pgbridge, or another stream, says to requests of his own. It acknowledges nothing, and
// refuses nothing.
func TestAnswersOfOthersAcknowledgeNothing(t *testing.T) {
	t.Parallel()
	route, err := event.NewRoute("a", "p", event.RouteOptions{Stored: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []nats.Msg{
		{Data: []byte(`{}`)},
		{Data: []byte(`{"stream":"P_JOBS","seq":1}`)},
		{Data: []byte(`{"stream":"P_JOBS","seq":1,"batch":"x-1","count":1}`)},
		{Data: []byte(`{"error":{"code":400,"err_code":10054,"description":"too large"},"stream":"P_JOBS","seq":0}`)},
		{Data: []byte(`{"results":[{"command":"SELECT 1"}],"attempts":1}`)},
		{Data: []byte(`{"type":"ack","seq":1,"msgs":1}`), Header: nats.Header{"Pgbridge-Seq": {"1"}}},
	} {
		for _, batched := range []bool{false, true} {
			p := &StreamPublisher{state: publishing, inbox: "_INBOX.x", run: run{window: 1, number: 1, batched: batched}, Log: zap.NewNop(),
				Problem: problem.New(part.Stream, error.Error), NC: &nats.Conn{}, Stream: streamS()}
			p.flight.add(event.Item{Kind: event.KindEvent, Route: route}, "id")
			p.flight.takeOff()
			m.Subject = p.replySubject(0)
			p.acknowledged(&m)
			if p.flight.first() != nil || p.state != publishing {
				t.Errorf("after %s, in a batch: %t, the event is acknowledged: %t, and the publisher is %s", m.Data, batched, p.flight.first() != nil, p.state)
			}
		}
	}
}
