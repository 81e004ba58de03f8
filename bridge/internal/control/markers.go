package control

import (
	"cmp"
	"context"
	"errors"
	"time"
)

const (
	markerLateAfter = 5 * time.Second
	// quietAfter and a look a second later are within the 15 s in which a dead
	// link is noticed.
	quietAfter = 10 * time.Second
)

// WatchMarkers reports a marker that stays away, once, with the likely cause. A
// listener that receives nothing, though a marker was committed after it began
// to listen, makes a new connection: that its pings are answered proves nothing.
func (c *Control) WatchMarkers(ctx context.Context, paused func() bool) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var q quiet
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch away := c.Seq.Outstanding(); {
		case away == 0:
			c.Late.Clear(c.Log)
		case away > markerLateAfter && !paused() && c.Late.Current() == "":
			c.Late.Set(c.Log, errors.New("no notification comes back: "+c.diagnose(ctx)))
		}
		limit := cmp.Or(c.SilentAfter, quietAfter)
		if q.lasts(c.Received()) >= limit && c.Seq.Silence() >= limit {
			c.Silent()
			q = quiet{}
		}
	}
}

// quiet is how long nothing has come.
type quiet struct {
	received uint64
	since    time.Time // zero: not at all
}

// lasts takes how much has come, where something may come.
func (q *quiet) lasts(received uint64, may bool) time.Duration {
	switch {
	case !may:
		*q = quiet{}
		return 0
	case received != q.received || q.since.IsZero():
		*q = quiet{received: received, since: time.Now()}
	}
	return time.Since(q.since)
}
