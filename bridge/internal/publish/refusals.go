package publish

import (
	"maps"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

const (
	refusedTries = 3           // of a message that is refused for its own sake
	refusedFor   = time.Minute // until its subject is tried again
	maxRefusals  = 1024        // subjects that are remembered
)

// refusals are the subjects on which NATS or the stream takes nothing, whatever
// happens to other subjects. The zero value is ready to use.
type refusals struct {
	subjects map[string]*refusal
	// routes are those of subjects that were given up, until when they are. Whoever may
	// notify chooses their subjects, so that the others would wait three times for each.
	routes map[*event.Route]time.Time
}

type refusal struct {
	tries int
	until time.Time // zero: not given up
}

func (r *refusals) empty() bool { return len(r.subjects) == 0 }

// has reports whether nothing is to be published on the subject now.
func (r *refusals) has(subject string) bool {
	e := r.subjects[subject]
	return e != nil && time.Now().Before(e.until)
}

// note remembers that the subject was refused to something.
func (r *refusals) note(subject string) *refusal {
	e := r.subjects[subject]
	if e == nil {
		if r.subjects == nil || len(r.subjects) >= maxRefusals {
			r.subjects = map[string]*refusal{}
		}
		e = &refusal{}
		r.subjects[subject] = e
	}
	return e
}

// of reports whether another subject of the route is given up now: then the first refusal
// of a message that is alone in flight is enough.
func (r *refusals) of(route *event.Route) bool { return time.Now().Before(r.routes[route]) }

// count counts a refusal of a message that was alone in flight. True means that
// there were enough of them.
func (r *refusals) count(subject string, route *event.Route) (enough bool) {
	e := r.note(subject)
	e.tries++
	if e.tries < refusedTries && !r.of(route) {
		return false
	}
	e.until = time.Now().Add(refusedFor)
	if r.routes == nil {
		r.routes = map[*event.Route]time.Time{}
	}
	r.routes[route] = e.until
	return true
}

// stored forgets a subject on which a message was stored.
func (r *refusals) stored(subject string) { delete(r.subjects, subject) }

// renew lets every subject be tried once more: another connection may have other
// permissions.
func (r *refusals) renew() {
	for _, e := range r.subjects {
		if !e.until.IsZero() {
			e.until = time.Now()
		}
	}
	clear(r.routes)
}

// expire forgets what was given up long ago and not tried since.
func (r *refusals) expire() {
	for subject, e := range r.subjects {
		if !e.until.IsZero() && time.Since(e.until) > refusedFor {
			delete(r.subjects, subject)
		}
	}
	maps.DeleteFunc(r.routes, func(_ *event.Route, until time.Time) bool { return time.Now().After(until) })
}
