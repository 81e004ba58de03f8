// Package lease has the permission under which a replica publishes, which runs
// out before another replica can get it.
package lease

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	// LockIdleTimeout is idle_session_timeout on the session that holds the
	// lock: a replica that is frozen or cut off loses it after this long.
	LockIdleTimeout = 4 * time.Second
	// leaseMargin is kept between the moment this replica stops to rely on the
	// lock and the moment PostgreSQL may give it to another.
	leaseMargin = 500 * time.Millisecond
	leasePoll   = 20 * time.Millisecond
)

// Lease is the publishers' permission to publish. It takes both: the order of
// notifications has confirmed this replica, and the session that holds the
// lock lately gave a sign of life. A process that was stopped and woke up
// finds it expired before it publishes anything.
type Lease struct {
	start     time.Time
	until     atomic.Int64 // nanoseconds after start, on the monotonic clock
	confirmed atomic.Bool
}

// New returns a lease that is not valid.
func New() *Lease { return &Lease{start: time.Now()} }

// Renew extends the lease; sent is when the query was sent whose answer proved
// that the session lives. It never shortens it. Renew and End are for one
// goroutine at a time.
func (l *Lease) Renew(sent time.Time) {
	if until := int64(sent.Sub(l.start) + LockIdleTimeout - leaseMargin); until > l.until.Load() {
		l.until.Store(until)
	}
}

// Confirm says whether the order of notifications has confirmed this replica.
func (l *Lease) Confirm(yes bool) { l.confirmed.Store(yes) }

// Confirmed reports what Confirm said last.
func (l *Lease) Confirmed() bool { return l.confirmed.Load() }

// End ends the lease until it is renewed.
func (l *Lease) End() { l.until.Store(0) }

// Held reports whether the session that holds the lock lately gave a sign of life.
func (l *Lease) Held() bool { return int64(time.Since(l.start)) < l.until.Load() }

// Valid reports whether this replica may publish now.
func (l *Lease) Valid() bool {
	return l.confirmed.Load() && l.Held()
}

// Await blocks until ready holds and the lease is valid; false means that ctx
// ended or wanted stopped to hold.
func (l *Lease) Await(ctx context.Context, wanted, ready func() bool) bool {
	for ctx.Err() == nil && wanted() {
		if ready() && l.Valid() {
			return true
		}
		wait.For(ctx, leasePoll)
	}
	return false
}
