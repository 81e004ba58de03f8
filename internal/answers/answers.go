// Package answers counts what became of the requests on each script, for people who
// look at it. It keeps no message, since PostgreSQL's can quote parameters.
package answers

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// KeptErrors is how many errors of a script are remembered.
const KeptErrors = 10

// Answers counts by script. The zero value is empty. It is safe for concurrent use.
// It grows with the names that it is given: only scripts that exist may be counted.
type Answers struct {
	mu      sync.Mutex // guards what follows
	scripts map[string]*Script
	all     Script // of all scripts, and of SQL in requests
}

// Script is what became of the requests on one script.
type Script struct {
	Requests uint64
	Errors   map[string]uint64 // by code
	Took     time.Duration     // all of them together, waiting included
	Longest  time.Duration
	// Counts are how many took at most as long as [Bounds] says, each with those of
	// the shorter ones; the longest of all are in none.
	Counts [len(bounds)]uint64
	Latest time.Time // when the last was answered; zero: none was
	Last   []Error   // the newest, the oldest of them first
}

// Error is one that a client was told.
type Error struct {
	At       time.Time
	Code     string
	SQLState string // empty: it is not PostgreSQL's
}

// bounds are the histogram's.
var bounds = [...]time.Duration{
	time.Millisecond / 2, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
}

// Bounds are what [Script.Counts] counts up to.
func Bounds() []time.Duration { return slices.Clone(bounds[:]) }

// Add counts an answer. An empty code is that of a request without an error, an
// empty name that of a request's own SQL.
func (t *Answers) Add(script, code, sqlstate string, took time.Duration) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.add(now, code, sqlstate, took)
	if script == "" {
		return
	}
	one := t.scripts[script]
	if one == nil {
		if t.scripts == nil {
			t.scripts = map[string]*Script{}
		}
		one = new(Script)
		t.scripts[script] = one
	}
	one.add(now, code, sqlstate, took)
}

func (s *Script) add(now time.Time, code, sqlstate string, took time.Duration) {
	s.Requests++
	s.Took += took
	s.Longest = max(s.Longest, took)
	s.Latest = now
	for i := len(bounds) - 1; i >= 0 && took <= bounds[i]; i-- {
		s.Counts[i]++
	}
	if code == "" {
		return
	}
	if s.Errors == nil {
		s.Errors = map[string]uint64{}
	}
	s.Errors[code]++
	if len(s.Last) == KeptErrors {
		s.Last = append(s.Last[:0], s.Last[1:]...)
	}
	s.Last = append(s.Last, Error{At: now.UTC(), Code: code, SQLState: sqlstate})
}

// Of returns what is known of a script.
func (t *Answers) Of(script string) Script {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.scripts[script]; one != nil {
		return one.clone()
	}
	return Script{}
}

// All returns what is known of all of them together.
func (t *Answers) All() Script {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.clone()
}

func (s *Script) clone() Script {
	c := *s
	c.Errors, c.Last = maps.Clone(s.Errors), slices.Clone(s.Last)
	return c
}

// Failed is how many were answered with an error.
func (s *Script) Failed() (n uint64) {
	for _, some := range s.Errors {
		n += some
	}
	return n
}
