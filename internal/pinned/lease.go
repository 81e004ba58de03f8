package pinned

import (
	"context"
	"time"
)

// lease begins the lease of a transaction that is open, and its first turn.
func (t *Transaction) lease() {
	t.mu.Lock()
	t.timer = time.AfterFunc(t.idle, t.expire) // stop waits for what it begins
	t.renewLocked()
	t.mu.Unlock()
	t.turn <- struct{}{}
}

// expire ends the transaction if its lease is over. The timer calls it.
func (t *Transaction) expire() {
	t.mu.Lock()
	reason := t.overLocked()
	claimed := reason != "" && t.claimLocked(reason)
	t.mu.Unlock()
	if claimed && t.bringToEnd(reason) {
		t.config.Expired.Inc()
	}
}

// overLocked says why the lease is over. While it is not it sets the timer.
func (t *Transaction) overLocked() string {
	if t.ending != "" {
		return ""
	}
	now, next := time.Now(), t.lifeEnds
	if t.cancel == nil {
		next = t.expiresLocked()
	}
	switch {
	case now.Before(next):
		t.timer.Reset(time.Until(next))
		return ""
	case now.Before(t.lifeEnds):
		return "nothing was asked of it for " + t.idle.String()
	}
	return "its lifetime was over"
}

// Touch renews the idle lease and returns when the lease is over now.
func (t *Transaction) Touch() (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending != "" {
		return time.Time{}, t.goneLocked()
	}
	t.renewLocked()
	return t.expiresLocked(), nil
}

// awaken resets PostgreSQL's own idle clock, if the connection is free: if not,
// what is being done does it.
func (t *Transaction) awaken(ctx context.Context) {
	select {
	case <-t.turn:
	default:
		return
	}
	t.session.Touch(ctx) // a lost connection shows in the state
	if t.session.Lost() {
		t.finish(lostReason)
		return
	}
	t.turn <- struct{}{}
}
