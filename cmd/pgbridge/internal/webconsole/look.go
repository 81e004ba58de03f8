package webconsole

import (
	"context"
	"sync"
	"time"
)

// look is something that is found out at most every so often, however many ask. It
// is safe for concurrent use.
type look[T any] struct {
	every time.Duration
	find  func(context.Context) (T, error)

	mu    sync.Mutex // guards the rest, and is held while it is found out
	at    time.Time
	value T
	err   error
}

// lookFor is how long one may take.
const lookFor = 3 * time.Second

func newLook[T any](every time.Duration, find func(context.Context) (T, error)) *look[T] {
	return &look[T]{every: every, find: find}
}

// get returns what was found out last, after another look where that is too long
// ago. It does not end with who asks, since others wait for the same.
func (l *look[T]) get(ctx context.Context) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() || time.Since(l.at) >= l.every {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookFor)
		defer cancel()
		l.value, l.err = l.find(ctx)
		l.at = time.Now()
	}
	return l.value, l.err
}
