package durable

import (
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/tracing"
)

// forbiddenFor is how long NATS has to refuse the subject of an event before a gap takes
// the event's place: an operator who takes a permission away by mistake has that long.
const forbiddenFor = 10 * time.Second

// forbidden is what NATS takes nothing on. The zero value is ready to use.
type forbidden struct {
	last   error // NATS's word that was looked at
	why    error // the last event was given up
	routes map[*event.Route]*refusal
	traces bool // where an account's messages are traced to
}

// refusal is of the events of one channel, whose writers choose the subjects.
type refusal struct {
	subject string
	since   time.Time
	enough  bool // the next one waits for nothing
}

// The header that has nats-server trace a message, and what of it keeps it from that
// (server/msgtrace.go).
const (
	traceHeader   = "Nats-Trace-Dest"
	traceDisabled = "trace disabled"
)

// traced reports whether nats-server may trace a message: its writer has it belong to a
// trace. The trace of an account's messages goes to a subject of the account's, with the
// permissions of whoever publishes them, and without these the message goes nowhere.
func traced(it *flying) bool {
	if it.Origin == nil {
		return false
	}
	for name := range it.Origin.Header {
		if strings.EqualFold(name, tracing.Header) {
			return true
		}
	}
	return false
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

// enough takes one more refusal of an event's subject, and reports whether NATS has gone on
// to refuse for long enough.
func (f *forbidden) enough(it *flying) bool {
	r := f.routes[it.Route]
	if r == nil {
		if f.routes == nil {
			f.routes = make(map[*event.Route]*refusal)
		}
		r = &refusal{subject: it.Subject(), since: time.Now()}
		f.routes[it.Route] = r
	}
	r.enough = r.enough || time.Since(r.since) >= forbiddenFor
	return r.enough
}
