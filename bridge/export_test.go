package bridge

import (
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/queue"
)

// SetPauseLimit makes a bridge that does not run yet drop events when a queue
// stayed full for so long, and not for a minute.
func (b *Bridge) SetPauseLimit(d time.Duration) { b.listener.PauseLimit = d }

// SetPingInterval makes a bridge that does not run yet look at its listener's link
// so often, where nothing else makes it.
func (b *Bridge) SetPingInterval(d time.Duration) { b.listener.PingEvery = d }

// SetSilentAfter makes a bridge that does not run yet leave a connection on which
// no marker comes back for so long.
func (b *Bridge) SetSilentAfter(d time.Duration) { b.control.SilentAfter = d }

// SetRing gives a bridge that does not run yet a ring of so many bytes for what goes
// to JetStream.
func (b *Bridge) SetRing(bytes int64) {
	q := queue.NewRing(queue.Limits{Queue: int64(b.config.QueueBytes), Ring: bytes})
	q.Keep()
	b.seq.Stream, b.published.Queue = q, q
}
