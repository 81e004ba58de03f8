package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/subject"
)

// minMessageBytes is what a stream must take: the largest NOTIFY payload,
// grown sixfold by JSON escapes in an envelope, and headers.
const minMessageBytes = 64 << 10

// tailSearch is how many messages without an id, which only somebody else can
// have stored, may hide the last one of ours.
const tailSearch = 100

// eventStream is the JetStream stream that keeps the events. It belongs to
// the bridges of one prefix alone.
type eventStream struct {
	js     jetstream.JetStream
	config Stream

	mu       sync.Mutex // guards what follows
	subjects []string   // sorted; none: no channel uses JetStream
	stale    bool       // subjects changed since the stream was looked at
}

// streamTail is where a stream ends.
type streamTail struct {
	created time.Time // of the stream
	seq     uint64    // of its last message, kept or not
	id      string    // of the newest message near it that has one; empty: none
	foreign bool      // messages without an id come after that

	replicated bool // over several servers
}

// EnsureStream creates the stream of events or adds the subjects it lacks, as
// Run does when it needs it; without Stream.Create it returns an error if
// something is missing. Where no channel has JetStream delivery it does
// nothing. It blocks until JetStream has answered or ctx ends.
func EnsureStream(ctx context.Context, nc *nats.Conn, c Config) error {
	c = c.withDefaults()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	routes := make(map[string]*route, len(c.Channels))
	for name, channel := range c.Channels {
		if routes[name], err = newRoute(name, channel, c.Prefix); err != nil {
			return err
		}
	}
	s := &eventStream{js: js, config: c.Stream}
	s.setRoutes(routes)
	_, err = s.open(ctx)
	return err
}

// setRoutes takes over which subjects are needed.
func (s *eventStream) setRoutes(routes map[string]*route) {
	var subjects []string
	for _, r := range routes {
		if r.config.Delivery == DeliveryJetStream {
			subjects = append(subjects, r.streamSubjects()...)
		}
	}
	slices.Sort(subjects)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(subjects) > 0 { // else what is queued still needs the old ones
		s.subjects = widest(slices.Compact(subjects))
	}
	s.stale = true
}

// widest drops the patterns that another covers: a stream's subjects must not
// overlap.
func widest(patterns []string) []string {
	return slices.DeleteFunc(slices.Clone(patterns), func(narrow string) bool {
		return slices.ContainsFunc(patterns, func(wide string) bool { return wide != narrow && subject.Covers(wide, narrow) })
	})
}

func (s *eventStream) needed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = false
	return s.subjects
}

func (s *eventStream) changed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stale
}

// open makes sure that the stream covers what is needed, and returns its tail.
// With no JetStream channel it asks nothing of NATS.
func (s *eventStream) open(ctx context.Context) (streamTail, error) {
	subjects := s.needed()
	if len(subjects) == 0 {
		return streamTail{}, nil
	}
	stream, err := s.ensure(ctx, subjects)
	if err != nil {
		return streamTail{}, fmt.Errorf("stream %s: %w", s.config.Name, err)
	}
	tail, err := tailOf(ctx, stream)
	if err != nil {
		return streamTail{}, fmt.Errorf("read the end of stream %s: %w", s.config.Name, err)
	}
	return tail, nil
}

func (s *eventStream) ensure(ctx context.Context, subjects []string) (jetstream.Stream, error) {
	stream, err := s.js.Stream(ctx, s.config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.create(ctx, subjects)
	}
	if err != nil {
		return nil, err
	}
	config := stream.CachedInfo().Config
	if config.MaxMsgSize > 0 && config.MaxMsgSize < minMessageBytes {
		return nil, fmt.Errorf("max_msg_size is %d bytes, events need %d", config.MaxMsgSize, minMessageBytes)
	}
	missing := slices.DeleteFunc(slices.Clone(subjects), func(needed string) bool {
		return slices.ContainsFunc(config.Subjects, func(pattern string) bool { return subject.Covers(pattern, needed) })
	})
	if len(missing) == 0 {
		return stream, nil
	}
	if !s.config.Create {
		return nil, fmt.Errorf("does not cover %s: add the subjects, or set create", strings.Join(missing, ", "))
	}
	config.Subjects = widest(append(config.Subjects, missing...))
	return s.js.UpdateStream(ctx, config)
}

func (s *eventStream) create(ctx context.Context, subjects []string) (jetstream.Stream, error) {
	if !s.config.Create {
		return nil, fmt.Errorf("does not exist: create it with the subjects %s, or set create", strings.Join(subjects, ", "))
	}
	return s.js.CreateStream(ctx, jetstream.StreamConfig{
		Name:        s.config.Name,
		Description: "Events that pgbridge publishes from PostgreSQL notifications.",
		Subjects:    subjects,
		MaxAge:      s.config.MaxAge,
		Duplicates:  s.config.DuplicateWindow,
		Replicas:    s.config.Replicas,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
	})
}

func tailOf(ctx context.Context, stream jetstream.Stream) (streamTail, error) {
	info, err := stream.Info(ctx)
	if err != nil {
		return streamTail{}, err
	}
	tail := streamTail{created: info.Created, seq: info.State.LastSeq, replicated: info.Config.Replicas > 1}
	if tail.seq == 0 || info.State.Msgs == 0 {
		return tail, nil
	}
	for seq := tail.seq; tail.id == "" && seq >= info.State.FirstSeq && tail.seq-seq < tailSearch; seq-- {
		m, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // deleted or expired since
		}
		if err != nil {
			return streamTail{}, err
		}
		tail.id = m.Header.Get(nats.MsgIdHdr)
		tail.foreign = tail.foreign || tail.id == ""
	}
	return tail, nil
}
