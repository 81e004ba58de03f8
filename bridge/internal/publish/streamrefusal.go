package publish

import (
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

// codeStoreFailed is a code of nats-server (server/errors.json).
const codeStoreFailed jetstream.ErrorCode = 10077

// ownFault reports whether the stream refused a message for its own sake: it
// would take others.
func (t *streamTail) ownFault(err error) bool {
	if stream.TooLarge(err) {
		return true
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == codeStoreFailed && t.perSubject && !t.full
}

// lookForViolation notices at once that NATS does not let us publish something
// that is in flight.
func (p *StreamPublisher) lookForViolation() {
	err := p.NC.LastError()
	if err == p.lastViolation || !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	p.lastViolation = err
	f := p.flight.on(quoted(err.Error()))
	if p.state != publishing || f == nil {
		return // another publisher's, or a subscription's
	}
	p.refuse(f, err)
	p.doubt(err)
}

// quoted returns the subject that an error of NATS names. There is nothing but
// the text to learn it from.
func quoted(text string) string {
	begin, end := strings.IndexByte(text, '"'), strings.LastIndexByte(text, '"')
	if begin < 0 || begin == end {
		return ""
	}
	subject, err := strconv.Unquote(text[begin : end+1])
	if err != nil {
		return ""
	}
	return subject
}

// refuse notes that something is refused for its own sake, and counts it if it
// was alone in flight: then it is sure which message was meant. After some, its
// subject is given up for a while: what comes on it becomes a loss, and the rest
// goes on. Of a channel of which one is given up, the next is at once.
func (p *StreamPublisher) refuse(f *flying, err error) {
	p.Refused.Set(p.Log, err)
	subject := f.Subject()
	p.refused.note(subject)
	switch {
	case p.flight.unacked() != 1 && p.refused.of(f.Route):
		p.notBefore = time.Time{}
	case p.flight.unacked() != 1:
	case p.refused.count(subject, f.Route):
		p.notBefore = time.Time{}
		p.takeBack()
	default:
		p.notBefore = time.Now().Add(p.retry.Next())
	}
}

// takeBack makes the flight what is to be published next, after these items.
func (p *StreamPublisher) takeBack(first ...event.Item) {
	p.intake.unread(append(first, p.flight.items()...)...)
	p.flight.reset()
}

// admit takes an item into the flight. Where nothing can be published on its
// subject it is lost, and a loss is announced before its channel's next event.
func (p *StreamPublisher) admit(it *event.Item) {
	p.admitted = max(p.admitted, it.Number)
	switch {
	case it.Kind == event.KindTakeover:
		p.takeOver(it)
	case !p.refused.empty() && p.refused.has(it.Subject()):
		p.lost.add(it, 1, api.ReasonNATSUnavailable, true)
		p.Queue.Release(it.Apart())
	case it.Kind == event.KindEvent && !it.CaughtUp() && p.canAnnounce(it.Route):
		p.intake.unread(p.announcement(it.Route), *it)
	default:
		for r, u := range p.lost {
			it.Open = it.Open.With(r.Token, u.Since)
		}
		p.flight.add(*it, p.id(it))
	}
}

func (p *StreamPublisher) canAnnounce(r *event.Route) bool {
	return len(p.lost) > 0 && p.lost[r] != nil && !p.refused.has(r.GapSubject)
}

// announcement ends the route's loss with a gap.
func (p *StreamPublisher) announcement(r *event.Route) event.Item {
	it := p.lost.gap(r)
	delete(p.lost, r)
	p.Queue.Hold(it.Size())
	return it
}

// announce ends every loss that it can, now and then, so that one which goes on
// is heard of.
func (p *StreamPublisher) announce() {
	if len(p.lost) == 0 || p.intake.sweeping() || time.Now().Before(p.announceAt) && !p.Queue.Drained() {
		return
	}
	p.announceAt = time.Now().Add(announceEvery)
	for r := range p.lost {
		if p.canAnnounce(r) {
			p.intake.unread(p.announcement(r))
		}
	}
}

// owes reports whether a loss can be announced.
func (p *StreamPublisher) owes() bool {
	for r := range p.lost {
		if p.canAnnounce(r) {
			return p.state.leased()
		}
	}
	return false
}

// forgetRefusals ends the problem of refused subjects when it is over.
func (p *StreamPublisher) forgetRefusals() {
	if p.refused.empty() {
		return
	}
	p.refused.expire()
	if p.refused.empty() {
		p.Refused.Clear(p.Log)
	}
}

// refusedWith takes the stream's refusal of an item.
func (p *StreamPublisher) refusedWith(number uint64, err error) {
	p.lookForViolation() // the cause, if there is one: what comes behind it does not continue the chain
	if !p.state.knowsEnd() {
		return
	}
	p.notBefore = time.Now().Add(p.retry.Next()) // it may refuse for long, as when it is full
	if f := p.flight.sentAs(number); f != nil && p.tail.ownFault(err) {
		err = fmt.Errorf("publish %s: %w", f.Subject(), err)
		p.refuse(f, err)
	}
	p.doubt(err)
}
