package listen

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// The bounds of standing still.
const (
	PauseAtMost = 60 * time.Second // reading may stand still this long
	usageLimit  = 0.25             // of PostgreSQL's notification queue
)

// backpressure stands still while a queue is full: for a short outage PostgreSQL's
// own queue is the better buffer. It gives up, and lets events be dropped,
// when that queue fills too, or when it cannot be asked, or after a minute.
func (l *Listener) backpressure(ctx context.Context, c *connection) {
	for _, q := range []*queue.Queue{l.Seq.Core, l.Seq.Stream} {
		if !q.Full() || q.Dropping() || !l.Seq.Live() {
			continue // until this connection's marker arrives nothing is queued anyway
		}
		if q == l.Seq.Core && q.Kept() {
			l.Seq.Overflowed(q) // only another replica could make room
			continue
		}
		l.paused.Store(true)
		if !l.awaitRoom(ctx, q, c) {
			l.Seq.Overflowed(q)
			l.Log.Warn("queue is full, dropping events until NATS takes them", zap.Int64("bytes", q.Bytes()))
		}
		l.paused.Store(false)
	}
}

func (l *Listener) awaitRoom(ctx context.Context, q *queue.Queue, c *connection) bool {
	deadline := time.Now().Add(l.PauseLimit)
	for q.Full() {
		c.signs.Add(1)
		if l.Seq.AwaitsMarker() {
			return !q.Overfull() // it is behind what is not read
		}
		usage, known := l.QueueUsage()
		if ctx.Err() != nil || !known || usage >= usageLimit || time.Now().After(deadline) {
			return false
		}
		wait.ForOr(ctx, time.Second, q.Freed)
	}
	return true
}
