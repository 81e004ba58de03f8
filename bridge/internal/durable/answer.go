package durable

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/stream"
)

func (p *publisher) reply(number uint64) string {
	b := make([]byte, 0, 64)
	b = append(append(b, p.inbox...), '.')
	b = append(strconv.AppendUint(b, p.run, 36), '.')
	return string(strconv.AppendUint(b, number, 36))
}

// acknowledge takes one answer of the stream, which speaks for all messages
// before. Answers to earlier runs say nothing about this one.
func (p *publisher) acknowledge(m *nats.Msg) {
	r, n, _ := strings.Cut(strings.TrimPrefix(m.Subject, p.inbox+"."), ".")
	run, err1 := strconv.ParseUint(r, 36, 64)
	number, err2 := strconv.ParseUint(n, 36, 64)
	if err1 != nil || err2 != nil || run != p.run || p.doubt != nil || number < p.flight.head || number >= p.flight.sent {
		return
	}
	if !stream.Answers(m, p.log.config.Name) {
		return
	}
	if err := p.refusal(m, number); err != nil {
		if it := p.flight.at(number); stream.TooLarge(err) && it.Kind == event.KindEvent {
			p.giveUp(it, api.ReasonOverflow) // or nothing behind it would ever be stored
			p.retry.Soon(time.Nanosecond)
		}
		p.doubt = cmp.Or(p.violation(), err)
		return
	}
	p.progress = time.Now()
	p.retry.Proved()
	p.advance(number + 1)
	p.Problem.Clear(p.Log)
}

// refusal is what keeps an answer from being an acknowledgement.
func (p *publisher) refusal(m *nats.Msg, number uint64) error {
	if len(m.Data) == 0 {
		return errNoStream
	}
	expected := strconv.AppendUint([]byte(`"seq":`), p.sequence(number), 10)
	if before, after, found := bytes.Cut(m.Data, expected); found && string(after) == "}" && !bytes.Contains(before, []byte(`"error"`)) {
		return nil // as most are
	}
	var answer struct {
		Error     *jetstream.APIError `json:"error"`
		Sequence  uint64              `json:"seq"`
		Duplicate bool                `json:"duplicate"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return fmt.Errorf("acknowledgement: %w", err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if answer.Sequence != p.sequence(number) || answer.Duplicate {
		return errMoved
	}
	return nil
}

// violation looks for NATS's word against the subject of a message in flight, which it
// says in no answer: what comes behind such a message has the wrong sequence. It is nil
// where there is none that is new.
func (p *publisher) violation() error {
	err := p.NC.LastError()
	if err == p.forbidden.last || !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	p.forbidden.last = err
	for n := p.flight.head; n < p.flight.sent; n++ {
		if it := p.flight.at(n); strings.HasSuffix(err.Error(), "Publish to "+strconv.Quote(it.Subject())) {
			p.forbid(it, err)
			return err
		}
	}
	if !p.forbidden.traces && p.tracedInFlight() { // else it is about others
		p.forbidden.traces = true
		p.retry.Soon(time.Nanosecond)
		return err
	}
	return nil
}

// tracedInFlight reports whether a message may be missing for where its trace was to go.
func (p *publisher) tracedInFlight() bool {
	for n := p.flight.head; n < p.flight.sent; n++ {
		if traced(p.flight.at(n)) {
			return true
		}
	}
	return false
}

// forbid takes NATS's refusal of the subject of a message. Where whoever wrote the event
// has chosen the subject, and it goes on to be refused, a gap takes the event's place: he
// could stop all durable channels otherwise. Subjects that the configuration chooses are
// the operator's, and what is on them waits.
func (p *publisher) forbid(it *flying, err error) {
	if it.Kind != event.KindEvent || !it.Route.Chosen() {
		return
	}
	if !p.forbidden.enough(it) {
		return
	}
	p.forbidden.why = err
	p.giveUp(it, api.ReasonNATSUnavailable)
	p.retry.Soon(time.Nanosecond)
}
