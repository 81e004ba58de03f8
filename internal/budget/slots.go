package budget

import (
	"cmp"
	"context"
	"errors"
	"math"
	"sync"
)

// Slots are connections that owners take one at a time and wait for. Each may
// have as many as there are, and some more are kept for those who hold fewer.
// Whoever holds the fewest is next; among those, whoever was so the longest time ago,
// and of those who never were since they began to wait, whoever has waited longest. Its
// methods are safe for concurrent use.
type Slots struct {
	each  int // that one owner may hold alone
	limit int
	share float64

	mu     sync.Mutex // guards the rest
	used   int
	owners map[string]*holder // those that hold or wait
	turn   uint64             // of the last one who began to wait
	served uint64             // slots that were taken
	queued int                // how many wait
}

// holder is an owner of slots.
type holder struct {
	held    int
	last    uint64    // of those served; 0: none since it holds or waits
	waiting []*waiter // in order
}

type waiter struct {
	turn    uint64
	granted chan struct{} // closed when it has its slot
}

// NewSlots returns slots of which one owner may hold n alone. That is his share of
// all there are; it is given as for [New].
func NewSlots(n int, share float64) *Slots {
	share = shareOf(share)
	kept := int(math.Ceil(float64(n)*(1-share)/share - rounding))
	return &Slots{each: n, limit: n + kept, share: share, owners: make(map[string]*holder)}
}

// Total returns how many slots there are.
func (s *Slots) Total() int { return s.limit }

// Acquire takes a slot for owner, and waits for one until ctx ends; then it
// returns ctx's cause. The slot is given back by release, which may be called
// more than once.
func (s *Slots) Acquire(ctx context.Context, owner string) (release func(), err error) {
	return s.AcquireUnless(ctx, owner, nil)
}

// ErrUnneeded is the error of [Slots.AcquireUnless] for a slot that is needed no more.
var ErrUnneeded = errors.New("what waited for its turn needs it no more")

// AcquireUnless is Acquire for who may need the slot no more while it waits: then what
// waits has returned is closed. That is called where there is no slot at once.
func (s *Slots) AcquireUnless(ctx context.Context, owner string, waits func() <-chan struct{}) (release func(), err error) {
	if w := s.enter(owner); w != nil {
		var unneeded <-chan struct{}
		if waits != nil {
			unneeded = waits()
		}
		select {
		case <-w.granted:
		case <-unneeded:
			if s.leave(owner, w) {
				return nil, ErrUnneeded
			}
		case <-ctx.Done():
			if s.leave(owner, w) {
				return nil, context.Cause(ctx)
			}
		}
	}
	return sync.OnceFunc(func() { s.release(owner) }), nil
}

// OthersWait reports whether somebody else than owner waits.
func (s *Slots) OthersWait(owner string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := 0
	if h := s.owners[owner]; h != nil {
		own = len(h.waiting)
	}
	return s.queued > own
}

// Waiting returns how many wait.
func (s *Slots) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued
}

// enter gives owner one more slot where there is one, and returns nil; else one more
// of owner's waits.
func (s *Slots) enter(owner string) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.owners[owner]
	if h == nil {
		h = &holder{}
		s.owners[owner] = h
	}
	if s.queued == 0 && s.mayLocked(h) {
		s.takeLocked(h)
		return nil
	}
	s.turn++
	s.queued++
	w := &waiter{turn: s.turn, granted: make(chan struct{})}
	h.waiting = append(h.waiting, w)
	s.grantLocked()
	return w
}

func (s *Slots) takeLocked(h *holder) {
	s.used++
	s.served++
	h.held++
	h.last = s.served
}

// mayLocked reports whether an owner may have one more.
func (s *Slots) mayLocked(h *holder) bool {
	return h.held < s.each && Fits(s.limit, s.used, h.held, 1, s.share)
}

// leave has one wait no more. It reports false if it has its slot by now.
func (s *Slots) leave(owner string, w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.owners[owner]
	if h == nil {
		return false
	}
	for i := range h.waiting {
		if h.waiting[i] == w {
			h.waiting = append(h.waiting[:i], h.waiting[i+1:]...)
			s.queued--
			s.forgetLocked(owner, h)
			return true
		}
	}
	return false
}

func (s *Slots) release(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	h := s.owners[owner]
	h.held--
	s.forgetLocked(owner, h)
	s.grantLocked()
}

func (s *Slots) forgetLocked(owner string, h *holder) {
	if h.held == 0 && len(h.waiting) == 0 {
		delete(s.owners, owner)
	}
}

// grantLocked gives slots to those who wait, as long as the next one may have
// one: where it may not, nobody who holds more may.
func (s *Slots) grantLocked() {
	for {
		h := s.nextLocked()
		if h == nil || !s.mayLocked(h) {
			return
		}
		s.takeLocked(h)
		s.queued--
		close(h.waiting[0].granted)
		h.waiting = h.waiting[1:]
	}
}

// nextLocked returns the owner whose turn it is, nil if nobody waits.
func (s *Slots) nextLocked() (next *holder) {
	if s.queued == 0 {
		return nil
	}
	for _, h := range s.owners {
		switch {
		case len(h.waiting) == 0:
		case next == nil, h.before(next):
			next = h
		}
	}
	return next
}

// before reports whether a slot is rather h's than another's; both wait for one.
func (h *holder) before(other *holder) bool {
	return cmp.Or(cmp.Compare(h.held, other.held), cmp.Compare(h.last, other.last),
		cmp.Compare(h.waiting[0].turn, other.waiting[0].turn)) < 0
}
