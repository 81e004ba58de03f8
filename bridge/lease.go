package bridge

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// lockIdleTimeout is idle_session_timeout on the session that holds the
	// lock: a replica that is frozen or cut off loses it after this long.
	lockIdleTimeout = 4 * time.Second
	// leaseMargin is kept between the moment this replica stops to rely on the
	// lock and the moment PostgreSQL may give it to another.
	leaseMargin = 500 * time.Millisecond
	leasePoll   = 20 * time.Millisecond
)

// lease is the publishers' permission to publish. It takes both: the order of
// notifications has confirmed this replica, and the session that holds the
// lock lately gave a sign of life. A process that was stopped and woke up
// finds it expired before it publishes anything.
type lease struct {
	start     time.Time
	until     atomic.Int64 // nanoseconds after start, on the monotonic clock
	confirmed atomic.Bool
}

func newLease() *lease { return &lease{start: time.Now()} }

// renew extends the lease; sent is when the query was sent whose answer proved
// that the session lives.
func (l *lease) renew(sent time.Time) {
	l.until.Store(int64(sent.Sub(l.start) + lockIdleTimeout - leaseMargin))
}

func (l *lease) end() { l.until.Store(0) }

func (l *lease) valid() bool {
	return l.confirmed.Load() && int64(time.Since(l.start)) < l.until.Load()
}

// await blocks until ready holds and the lease is valid; false means that ctx
// ended or wanted stopped to hold.
func (l *lease) await(ctx context.Context, wanted, ready func() bool) bool {
	for ctx.Err() == nil && wanted() {
		if ready() && l.valid() {
			return true
		}
		sleep(ctx, leasePoll, nil)
	}
	return false
}
