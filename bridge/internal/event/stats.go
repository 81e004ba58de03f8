package event

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
)

// Counters counts what happened on one channel since the process started.
type Counters struct {
	Channel   string
	Received  atomic.Uint64
	Published atomic.Uint64
	Dropped   atomic.Int64
	Rows      atomic.Uint64 // of those published, the ones of catch-up scripts
	CaughtUp  atomic.Uint64 // gaps whose catch-up script returned all
	NotCaught atomic.Uint64 // gaps whose script failed

	published atomic.Int64 // when the last one was, in nanoseconds since 1970
	took      atomic.Int64 // how long it took from its receipt, in nanoseconds

	mu   sync.Mutex // guards the rest
	gaps map[api.Reason]uint64
	last []api.Gap // the newest, the oldest of them first
}

// KeptGaps is how many gaps of a channel are remembered.
const KeptGaps = 5

// Deliver counts an event that NATS has since at, by its own word.
func (s *Counters) Deliver(received, at time.Time) {
	s.Published.Add(1)
	s.published.Store(at.UnixNano())
	s.took.Store(int64(at.Sub(received)))
}

// Latest returns when the last event was published and how long that took from its
// receipt; zero where none was.
func (s *Counters) Latest() (at time.Time, took time.Duration) {
	if n := s.published.Load(); n != 0 {
		at = time.Unix(0, n).UTC()
	}
	return at, time.Duration(s.took.Load())
}

// Gap counts a gap.
func (s *Counters) Gap(g *api.Gap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gaps[g.Reason]++
	switch c := g.CatchUp; {
	case c == nil:
	case c.Complete:
		s.CaughtUp.Add(1)
	default:
		s.NotCaught.Add(1)
	}
	if len(s.last) == KeptGaps {
		s.last = append(s.last[:0], s.last[1:]...)
	}
	s.last = append(s.last, *g)
}

// Gaps returns how many there were.
func (s *Counters) Gaps() (n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, some := range s.gaps {
		n += some
	}
	return n
}

// LastGaps returns the newest gaps, the oldest of them first.
func (s *Counters) LastGaps() []api.Gap {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.last)
}

// AppendGaps appends how many gaps of each of the reasons were announced.
func (s *Counters) AppendGaps(to []uint64, reasons []api.Reason) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range reasons {
		to = append(to, s.gaps[r])
	}
	return to
}

// NewCounters returns counters that are zero.
func NewCounters(channel string) *Counters {
	return &Counters{Channel: channel, gaps: map[api.Reason]uint64{}}
}
