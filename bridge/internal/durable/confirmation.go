package durable

import (
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
)

// confirmSteps is in how many steps a delay passes.
const confirmSteps = 64

// confirmation confirms positions, each when it has been safe for a time. So the
// slot can give again what a stream has lost that it had acknowledged, if that
// is noticed in time.
type confirmation struct {
	delay   time.Duration
	confirm func(wal.LSN)
	waiting []safeSince // in order
}

type safeSince struct {
	since time.Time
	place wal.LSN
}

// safe notes that everything before the place is stored. Positions that come
// within one step wait together, for the last of them.
func (c *confirmation) safe(place wal.LSN, now time.Time) {
	if c.delay <= 0 {
		c.confirm(place)
		return
	}
	step := c.delay / confirmSteps
	if n := len(c.waiting); n > 0 && now.Before(c.waiting[n-1].since) {
		c.waiting[n-1].place = max(c.waiting[n-1].place, place)
		return
	}
	c.waiting = append(c.waiting, safeSince{now.Add(step), place})
}

// pass confirms what has waited long enough.
func (c *confirmation) pass(now time.Time) {
	due := 0
	for due < len(c.waiting) && now.Sub(c.waiting[due].since) >= c.delay {
		due++
	}
	if due > 0 {
		c.confirm(c.waiting[due-1].place)
		c.waiting = append(c.waiting[:0], c.waiting[due:]...)
	}
}
