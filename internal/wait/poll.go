package wait

import (
	"context"
	"time"
)

// pollShare bounds what looking costs: a look is followed by a pause of at
// least so many times its length.
const pollShare = 50

// Poll calls look after every, again and again, until ctx ends. Looks that take
// long come less often, so that they cost no more than a fiftieth of the time.
// An every of zero or less means never: then Poll returns at once.
func Poll(ctx context.Context, every time.Duration, look func()) {
	if every <= 0 {
		return
	}
	for pause := every; For(ctx, pause); {
		began := time.Now()
		look()
		pause = max(every, pollShare*time.Since(began))
	}
}

// Settled holds a value that is read from outside, such as the content of a
// file, and takes over another one only when that was read twice in a row: a
// file may be half written when it is read, and half a file can be valid. It is
// for one goroutine at a time.
type Settled[T any] struct {
	equal   func(a, b T) bool
	value   T
	pending *T // another one, read once; nil: none
}

// NewSettled returns one that holds value.
func NewSettled[T any](value T, equal func(a, b T) bool) *Settled[T] {
	return &Settled[T]{equal: equal, value: value}
}

// Value returns what is held.
func (s *Settled[T]) Value() T { return s.value }

// Latest returns what was read last, whether it is held or waits for a second
// reading.
func (s *Settled[T]) Latest() T {
	if s.pending != nil {
		return *s.pending
	}
	return s.value
}

// Read takes notice of a reading. It reports true when that made it the value:
// it differs from the old one and equals the reading before.
func (s *Settled[T]) Read(v T) (changed bool) {
	switch {
	case s.equal(v, s.value):
		s.pending = nil
	case s.pending == nil || !s.equal(v, *s.pending):
		s.pending = &v
	default:
		s.Set(v)
		return true
	}
	return false
}

// Unread takes notice that nothing could be read: the next reading is a first
// one.
func (s *Settled[T]) Unread() { s.pending = nil }

// Set makes v the value at once.
func (s *Settled[T]) Set(v T) { s.value, s.pending = v, nil }
