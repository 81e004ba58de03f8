package wait

import (
	"context"
	"time"
)

// For waits for d, and reports false when ctx ended first. A d of zero or less
// does not wait; it still reports whether ctx goes on.
func For(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Within is For, except that it reports false at once when ctx's deadline comes
// before d is over: what would be too late need not be waited for.
func Within(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	return For(ctx, d)
}

// ForOr waits for d or until something comes from wake, and reports whether it
// did. It is false, too, when ctx ended first.
func ForOr(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-wake:
		return true
	case <-timer.C:
		return false
	case <-ctx.Done():
		return false
	}
}
