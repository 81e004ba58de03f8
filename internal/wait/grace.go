package wait

import (
	"context"
	"time"
)

// Grace returns a context with ctx's values that ends grace after ctx has
// ended: what is under way at a stop has that long to finish. The caller calls
// cancel when nothing needs it any more.
func Grace(ctx context.Context, grace time.Duration) (_ context.Context, cancel context.CancelFunc) {
	later, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		For(later, grace)
		end()
	})
	return later, func() { stop(); end() }
}
