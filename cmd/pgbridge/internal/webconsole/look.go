package webconsole

import (
	"context"
	"time"
)

// turn is what one has at a time. Whoever waits for it waits no longer than a viewer: a
// connection that makes room for another has nothing left of it.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) pass() { <-t }

// look is something that is found out at most every so often, however many ask. It
// is safe for concurrent use.
type look[T any] struct {
	every time.Duration
	find  func(context.Context) (T, error)

	turn  turn // guards the rest, and is taken while it is found out
	at    time.Time
	value T
	err   error
}

// lookFor is how long one may take.
const lookFor = 3 * time.Second

func newLook[T any](every time.Duration, find func(context.Context) (T, error)) *look[T] {
	return &look[T]{every: every, find: find, turn: make(turn, 1)}
}

// get returns what was found out last, after another look where that is too long
// ago. That does not end with who asks, since others wait for the same.
func (l *look[T]) get(ctx context.Context) (none T, err error) {
	if err := l.turn.take(ctx); err != nil {
		return none, err
	}
	defer l.turn.pass()
	if l.at.IsZero() || time.Since(l.at) >= l.every {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookFor)
		defer cancel()
		l.value, l.err = l.find(ctx)
		l.at = time.Now()
	}
	return l.value, l.err
}
