package jobs

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// keptEnds is how many ends of deliveries are remembered.
const keptEnds = 30

// Running is a job under way in this process.
type Running struct {
	Kind, Script string
	Begun        time.Time
	Delivery     uint64
}

// Ended is what one delivery of a job came to.
type Ended struct {
	Kind, Script string
	Outcome      string // done, failed, retried or waiting
	Code         string // of the error; empty: none
	At           time.Time
	Took         time.Duration
	Attempt      int
}

// seen is what people see of the jobs of this process.
type seen struct {
	mu       sync.Mutex // guards the rest
	running  map[any]Running
	ended    []Ended // the newest, the oldest of them first
	outcomes map[string]uint64
}

// begins notes a job under way, by a key of its own.
func (s *seen) begins(key any, r Running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.running, s.outcomes = map[any]Running{}, map[string]uint64{}
	}
	s.running[key] = r
}

func (s *seen) ends(key any, e Ended) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	e.At, e.Took = now.UTC(), now.Sub(s.running[key].Begun)
	delete(s.running, key)
	s.outcomes[e.Outcome]++
	if len(s.ended) == keptEnds {
		s.ended = append(s.ended[:0], s.ended[1:]...)
	}
	s.ended = append(s.ended, e)
}

// View is what this process does with jobs.
type View struct {
	Running  []Running // the oldest first
	Ended    []Ended   // the newest, the oldest of them first
	Outcomes map[string]uint64
}

func (s *seen) view() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := View{Ended: slices.Clone(s.ended), Outcomes: maps.Clone(s.outcomes)}
	v.Running = slices.SortedFunc(maps.Values(s.running), func(a, b Running) int { return a.Begun.Compare(b.Begun) })
	return v
}
