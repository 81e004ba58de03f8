package publish

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/stream"
)

const (
	endTimeout = 5 * time.Second // to find the stream's end, and more for many subjects
	// exactSubjects is how many subjects the stream names one by one. Beyond, one
	// pattern stands for the events of all channels, and one for their gaps, if
	// all of them are stored.
	exactSubjects = 256
	// subjectCost is what nats-server may take to compare two subjects of a stream
	// when it is made or changed, on a slow machine.
	subjectCost = 250 * time.Nanosecond
)

// EventStream is the JetStream stream that keeps the events. It belongs to
// the bridges of one prefix alone.
type EventStream struct {
	js     jetstream.JetStream
	prefix string
	need   stream.Need // without subjects

	mu       sync.Mutex // guards what follows
	subjects []string   // sorted; none: no channel uses JetStream
	wide     []string   // patterns that may stand for some of them
	apart    []string   // where events and gaps are published that are not stored
	stale    bool       // subjects changed since the stream was looked at
}

// NewEventStream returns the stream that need describes; its subjects are those
// of the routes, which begin with the prefix unless a channel has its own.
func NewEventStream(js jetstream.JetStream, prefix string, need stream.Need) *EventStream {
	need.Prefix = prefix
	return &EventStream{js: js, prefix: prefix, need: need}
}

// SetRoutes takes over which subjects are needed.
func (s *EventStream) SetRoutes(routes map[string]*event.Route) {
	var subjects, apart []string
	for _, r := range routes {
		if r.Stored && !r.Durable { // those have a stream of their own
			subjects = append(subjects, r.Subjects()...)
		} else {
			apart = append(apart, r.Subjects()...)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(subjects) > 0 { // else what is queued still needs the old ones
		s.subjects = stream.Widest(subjects)
	}
	s.apart, s.wide = apart, nil
	if len(s.subjects) > exactSubjects {
		s.wide = slices.DeleteFunc(s.patterns(), func(pattern string) bool {
			return len(stream.Missing([]string{pattern}, apart)) < len(apart)
		})
	}
	s.stale = true
}

// patterns are those that can stand for the subjects of many channels.
func (s *EventStream) patterns() []string {
	return []string{s.prefix + ".event.*", s.prefix + ".gap.*"}
}

func (s *EventStream) name() string { return s.need.Config.Name }

// needed is the stream as it is needed now.
func (s *EventStream) needed() stream.Need {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = false
	need := s.need
	need.Config.Subjects = slices.Clone(s.subjects)
	need.Wide, need.OnceWide, need.Apart = s.wide, s.patterns(), s.apart
	return need
}

// patience is how long the search for the stream's end may take: the server
// compares each subject with each other when it makes or changes the stream.
func (s *EventStream) patience() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.subjects)
	return endTimeout + time.Duration(n*n)*subjectCost
}

func (s *EventStream) changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stale
}

// Ensure makes sure that the stream has every subject that is needed. Nil means
// that no channel uses JetStream: then it asks nothing of NATS.
func (s *EventStream) Ensure(ctx context.Context) (jetstream.Stream, error) {
	need := s.needed()
	if len(need.Config.Subjects) == 0 {
		return nil, nil
	}
	return need.Ensure(ctx, s.js)
}

// open ensures the stream and returns its tail.
func (s *EventStream) open(ctx context.Context) (streamTail, error) {
	stream, err := s.Ensure(ctx)
	if err != nil || stream == nil {
		return streamTail{}, err
	}
	tail, err := tailOf(ctx, s.js, stream)
	if err != nil {
		return streamTail{}, fmt.Errorf("read the end of stream %s: %w", s.name(), err)
	}
	return tail, nil
}
