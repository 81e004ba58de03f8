package control

import (
	"context"
	"time"

	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	// deferAtMost is how long the lock is left to a replica that misses less than
	// this one. It takes the lock within a tick, if it is one.
	deferAtMost = 3 * time.Second
	// decideWithin is how long another replica is given to learn that it could go on.
	decideWithin = 3 * time.Second
	// settleWithin is how long what is published is waited for, before the lock is
	// given away.
	settleWithin = 500 * time.Millisecond
	settlePoll   = 10 * time.Millisecond
	byeTimeout   = time.Second
)

// decide gives the lock to a replica that has listened all the time, where this one
// has not, and there is one. Else this one announces what it missed.
func (s *session) decide(ctx context.Context) error {
	whole, err := s.others(ctx, wholes)
	if err != nil {
		return err
	}
	if !whole {
		return s.announce(ctx)
	}
	s.Seq.Yield()
	s.Log.Info("leaves publishing to a replica that has missed nothing")
	s.released = true
	if !s.Seq.Active() {
		return nil // it had not begun
	}
	return s.farewell(ctx)
}

// announce lets this replica go on itself, unless another one is about to learn that it
// could do so without a gap.
func (s *session) announce(ctx context.Context) error {
	if s.deciding.IsZero() {
		s.deciding = time.Now()
	}
	learns, err := s.others(ctx, learners)
	if err != nil || learns && time.Since(s.deciding) < decideWithin {
		return err
	}
	s.deciding = time.Time{}
	s.Seq.Announce()
	return nil
}

// defers reports whether another replica would announce less than this one.
func (s *session) defers(ctx context.Context) bool {
	if s.Seq.Whole() {
		s.deferring = time.Time{}
		return false
	}
	whole, err := s.others(ctx, wholes)
	switch {
	case err != nil || !whole:
		s.deferring = time.Time{}
		return false
	case s.deferring.IsZero():
		s.deferring = time.Now()
	}
	return time.Since(s.deferring) < deferAtMost
}

// farewell says how far this replica has published, as its last word. That it is
// not heard costs no more than a gap.
func (s *session) farewell(ctx context.Context) error {
	if !s.holds {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), byeTimeout)
	defer cancel()
	for end := time.Now().Add(settleWithin); s.Seq.Core.Exposed() && time.Now().Before(end); {
		wait.For(ctx, settlePoll)
	}
	_ = s.send(ctx, s.Seq.Farewell())
	return nil
}
