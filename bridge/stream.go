package bridge

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/stream"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// Stream describes the JetStream stream that holds the events.
type Stream struct {
	// Name defaults to the prefix in upper case, dots as underscores, with
	// _EVENTS appended: PGBRIDGE_EVENTS.
	Name string
	// MaxAge is how long events are kept. Default 72 h.
	MaxAge time.Duration
	// DuplicateWindow is how long JetStream remembers message ids. Default 2 min.
	DuplicateWindow time.Duration
	// Replicas of the stream in a NATS cluster. Default 1.
	Replicas int
	// Create lets the bridge create the stream and add missing subjects.
	// Without it a missing stream or subject is a readiness problem.
	Create bool
}

// NameFor returns the stream's name: its own, or the default for a prefix.
func (s Stream) NameFor(prefix string) string {
	if s.Name != "" {
		return s.Name
	}
	return subject.StreamName(prefix, "EVENTS")
}

func (s Stream) withDefaults(prefix string) Stream {
	s.Name = s.NameFor(prefix)
	if s.MaxAge == 0 {
		s.MaxAge = 72 * time.Hour
	}
	if s.DuplicateWindow == 0 {
		s.DuplicateWindow = 2 * time.Minute
	}
	if s.Replicas == 0 {
		s.Replicas = 1
	}
	return s
}

func (s Stream) validate(key string, f *faults) {
	if strings.ContainsAny(s.Name, " \t\r\n.*>/\\") || s.Name == "" {
		f.add(key+".name", "%q: a stream's name has no spaces, dots, slashes or wildcards", s.Name)
	}
	if s.MaxAge < 0 {
		f.add(key+".max_age", "%s: want a positive duration", s.MaxAge)
	}
	if s.DuplicateWindow < 100*time.Millisecond || s.DuplicateWindow > s.MaxAge {
		f.add(key+".duplicate_window", "%s: want 100ms up to max_age (%s)", s.DuplicateWindow, s.MaxAge)
	}
	if s.Replicas < 1 || s.Replicas > 5 {
		f.add(key+".replicas", "%d: want 1 to 5", s.Replicas)
	}
}

// need is the stream as JetStream is asked for it, without subjects.
func (s Stream) need() stream.Need {
	return stream.Need{
		Config: jetstream.StreamConfig{
			Name:        s.Name,
			Description: "Events that pgbridge publishes from PostgreSQL notifications.",
			MaxAge:      s.MaxAge,
			Duplicates:  s.DuplicateWindow,
			Replicas:    s.Replicas,
			Storage:     jetstream.FileStorage,
			Discard:     jetstream.DiscardOld,
		},
		Kind: stream.Events, Create: s.Create, Batches: true,
	}
}
