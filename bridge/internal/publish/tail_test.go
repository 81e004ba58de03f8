package publish

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// The id of the last message counts whichever header it is in, and a message
// without one hides nothing.
func TestTailFindsTheNewestID(t *testing.T) {
	t.Parallel()
	js, err := jetstream.New(testenv.NATS(t).Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "E", Subjects: []string{"e"}})
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		header  nats.Header
		id      string
		foreign bool
	}{
		{nats.Header{"Nats-Msg-Id": {"1"}}, "1", false},
		{nats.Header{"Pgbridge-Id": {"2"}}, "2", false},
		{nats.Header{"Pgbridge-Id": {"3"}, "Nats-Msg-Id": {"other"}}, "3", false},
		{nil, "3", true},
		{nats.Header{"Nats-Msg-Id": {"4"}}, "4", false},
	}
	if tail, err := tailOf(ctx, js, stream); err != nil || tail.id != "" || tail.seq != 0 || tail.foreign {
		t.Errorf("tail of an empty stream = %+v, %v", tail, err)
	}
	for i, step := range steps {
		if _, err := js.PublishMsg(ctx, &nats.Msg{Subject: "e", Header: step.header}); err != nil {
			t.Fatal(err)
		}
		tail, err := tailOf(ctx, js, stream)
		if err != nil {
			t.Fatal(err)
		}
		if tail.id != step.id || tail.foreign != step.foreign || tail.seq != uint64(i+1) {
			t.Errorf("after message %d with %v the tail is %+v, want id %q, foreign %t", i+1, step.header, tail, step.id, step.foreign)
		}
	}
}

// What was deleted behind the last message hides nothing, however much it was,
// and what is foreign is looked through in few requests.
func TestTailBehindWhatIsGone(t *testing.T) {
	t.Parallel()
	js, err := jetstream.New(testenv.NATS(t).Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "E", Subjects: []string{"ours", "gone", "foreign"}, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	publish := func(n int, subject string, h nats.Header) {
		t.Helper()
		for range n {
			if _, err := js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: h}); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(1, "ours", nats.Header{"Pgbridge-Id": {"1"}})
	publish(2*tailSearch, "gone", nats.Header{"Pgbridge-Id": {"2"}})
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject("gone")); err != nil {
		t.Fatal(err)
	}
	tail, err := tailOf(ctx, js, stream)
	if err != nil || tail.id != "1" || tail.foreign || tail.seq != 1+2*tailSearch {
		t.Errorf("tail = %+v, %v; want id 1 and sequence %d", tail, err, 1+2*tailSearch)
	}
	publish(1, "ours", nats.Header{"Pgbridge-Id": {"3"}})
	publish(tailSearch, "foreign", nil)
	if tail, err = tailOf(ctx, js, stream); err != nil || tail.id != "3" || !tail.foreign {
		t.Errorf("tail behind %d foreign messages = %+v, %v; want id 3", tailSearch, tail, err)
	}
}
