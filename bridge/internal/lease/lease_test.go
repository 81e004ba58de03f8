package lease

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := New()
		l.Renew(time.Now())
		if l.Valid() {
			t.Error("valid without a confirmation")
		}
		l.Confirm(true)
		const life = LockIdleTimeout - leaseMargin
		time.Sleep(life - time.Nanosecond)
		if !l.Valid() {
			t.Errorf("expired before %s", life)
		}
		time.Sleep(time.Nanosecond)
		if l.Valid() {
			t.Errorf("valid after %s", life)
		}
		l.Renew(time.Now().Add(-time.Second)) // the answer came a second after the query was sent
		time.Sleep(life - time.Second - time.Nanosecond)
		if !l.Valid() {
			t.Error("not renewed")
		}
		time.Sleep(time.Nanosecond)
		if l.Valid() {
			t.Error("counts from the answer, want from the query")
		}
		l.Renew(time.Now())
		l.End()
		if l.Valid() {
			t.Error("valid after its end")
		}
	})
}

func TestLeaseAwait(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(l *Lease, cancel context.CancelFunc, wanted *atomic.Bool)
		want   bool
	}{
		{"confirmed", func(l *Lease, _ context.CancelFunc, _ *atomic.Bool) { l.Renew(time.Now()); l.Confirm(true) }, true},
		{"cancelled", func(_ *Lease, cancel context.CancelFunc, _ *atomic.Bool) { cancel() }, false},
		{"not wanted any more", func(_ *Lease, _ context.CancelFunc, wanted *atomic.Bool) { wanted.Store(false) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var wanted atomic.Bool
				wanted.Store(true)
				l, began := New(), time.Now()
				time.AfterFunc(time.Second, func() { tt.change(l, cancel, &wanted) })
				ready := func() bool { return time.Since(began) > time.Second }
				got := l.Await(ctx, wanted.Load, ready)
				if waited := time.Since(began); got != tt.want || waited < time.Second || waited > time.Second+2*leasePoll {
					t.Errorf("await() = %t after %s, want %t after 1s", got, waited, tt.want)
				}
			})
		})
	}
}
