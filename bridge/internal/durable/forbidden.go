package durable

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
)

// forbiddenFor is how long NATS has to refuse the subject of an event before a gap takes
// the event's place: an operator who takes a permission away by mistake has that long.
const forbiddenFor = 10 * time.Second

// forbidden is what NATS takes nothing on. The zero value is ready to use.
type forbidden struct {
	last   error // NATS's word that was looked at
	why    error // the last event was given up
	routes map[*event.Route]*refusal
}

// refusal is of the events of one channel, whose writers choose the subjects.
type refusal struct {
	subject string
	since   time.Time
	enough  bool // the next one waits for nothing
}

// clear forgets all of it.
func (f *forbidden) clear() { f.routes = nil }

// stored forgets what was refused, and is not any more.
func (f *forbidden) stored(it *flying) {
	if len(f.routes) == 0 {
		return
	}
	if r := f.routes[it.Route]; r != nil && !r.enough && r.subject == it.Subject() {
		delete(f.routes, it.Route)
	}
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
	return nil
}

// forbid takes NATS's refusal of the subject of a message. Where whoever wrote the event
// has chosen the subject, and it goes on to be refused, a gap takes the event's place: he
// could stop all durable channels otherwise. Subjects that the configuration chooses are
// the operator's, and what is on them waits.
func (p *publisher) forbid(it *flying, err error) {
	if it.Kind != event.KindEvent || !it.Route.Chosen() {
		return
	}
	r := p.forbidden.routes[it.Route]
	if r == nil {
		if p.forbidden.routes == nil {
			p.forbidden.routes = make(map[*event.Route]*refusal)
		}
		r = &refusal{subject: it.Subject(), since: time.Now()}
		p.forbidden.routes[it.Route] = r
	}
	if !r.enough && time.Since(r.since) < forbiddenFor {
		return
	}
	r.enough, p.forbidden.why = true, err
	p.giveUp(it, api.ReasonNATSUnavailable)
	p.retry.Soon(time.Nanosecond)
}
