package queue

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Intent is what of a queue may be published, where whoever takes over has to know
// before what may have been. Zero: all of it. Its methods may be called concurrently.
type Intent struct {
	Raised wait.Signal // raised when more may be published; nil: never

	bound atomic.Bool // not all of it
	mu    sync.Mutex  // guards what follows
	place uint64      // what has a number up to this one may be
	until time.Time   // and what was received up to then
}

// Bind ends that everything may be published: from now on it is what has a number up
// to this one. Where that was ended before, nothing is changed, but closed ends what
// is allowed for a time.
func (i *Intent) Bind(number uint64, closed bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.bound.Swap(true) {
		i.place, i.until = number, time.Time{}
	}
	if closed {
		i.until = time.Time{}
	}
}

// Unbind lets everything be published.
func (i *Intent) Unbind() {
	i.bound.Store(false)
	i.Raised.Raise()
}

// AllowTo lets what has a number up to this one be published.
func (i *Intent) AllowTo(number uint64) {
	i.mu.Lock()
	i.place = max(i.place, number)
	i.mu.Unlock()
	i.Raised.Raise()
}

// AllowUntil lets what is received up to then be published.
func (i *Intent) AllowUntil(at time.Time) {
	i.mu.Lock()
	if at.After(i.until) {
		i.until = at
	}
	i.mu.Unlock()
	i.Raised.Raise()
}

// Allows reports whether an item may be published. What is no message of its own
// always may.
func (i *Intent) Allows(it *event.Item) bool {
	if !i.bound.Load() || it.Route == nil {
		return true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return it.Number <= i.place || !it.Received.After(i.until)
}

// Ends is until when what is received may be published, zero where nothing is;
// false: without an end.
func (i *Intent) Ends() (at time.Time, bound bool) {
	if !i.bound.Load() {
		return time.Time{}, false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.until, true
}
