package bridge

import "github.com/pgbridge/pgbridge/bridge/internal/event"

// Counts are of what happened since the bridge was made.
type Counts struct {
	Received, Published, Dropped, Gaps uint64
}

func (n *Counts) add(c *event.Counters) {
	n.Received += c.Received.Load()
	n.Published += c.Published.Load()
	n.Dropped += uint64(c.Dropped.Load())
	n.Gaps += c.Gaps()
}
