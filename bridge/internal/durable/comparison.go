package durable

import "github.com/pgbridge/pgbridge/bridge/internal/wal"

// comparison holds what the stream has after the slot's confirmed position, so
// that what the slot gives again is not published twice, and what it does not
// give is announced.
type comparison struct {
	stored map[position]bool // true once the slot gave it
	gaps   map[position]bool // each may stand in the place of an event that no message holds
	end    wal.LSN           // of the last commit that this history can still give
	lost   bool              // there is something that it cannot
}

// compareWith sorts the stream's events. Gaps are not the database's, but for those of
// one event, which cannot be told from others by their ids.
func compareWith(stored []position, s *wal.System) *comparison {
	c := &comparison{stored: make(map[position]bool, len(stored)), gaps: map[position]bool{}}
	for _, p := range stored {
		switch {
		case p.gap():
			c.gaps[p] = true
		case p.system != s.ID || s.Owner(p.commit) != p.timeline || p.commit >= s.Flushed:
			c.lost = true
		default:
			c.stored[p] = false
			c.end = max(c.end, p.commit)
		}
	}
	return c
}

// has reports whether the stream has the event of a channel, or a gap in its place.
func (c *comparison) has(p position, channel string) bool {
	if _, has := c.stored[p]; has {
		return true
	}
	p.hash = gapHash(channel)
	return c.gaps[p]
}

// given reports whether the stream has the event.
func (c *comparison) given(p position) bool {
	if _, has := c.stored[p]; !has {
		return false
	}
	c.stored[p] = true
	return true
}

// missed reports whether the database has not all that the stream has, once the
// slot has come beyond it.
func (c *comparison) missed() bool {
	for _, given := range c.stored {
		if !given {
			return true
		}
	}
	return false
}
