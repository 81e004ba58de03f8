package verdict

import (
	"github.com/pgbridge/pgbridge/internal/chaos/internal/harvest"
)

// This file is what catch-up scripts told.

// told takes note of the rows of scripts. Each is of an event that was committed; it may
// come as often as it likes.
func (c *comparison) told() {
	known := map[string]bool{}
	for _, e := range c.expected {
		known[name(e.Channel, e.Row())] = true
	}
	c.rows = map[string]int{}
	for i, g := range c.got {
		switch {
		case g.Gap != nil:
			c.count(g)
		case g.Row:
			c.result.Rows++
			key := name(g.Channel, g.Key)
			if _, before := c.rows[key]; !before {
				c.rows[key] = i
			}
			if !known[key] {
				c.find("invented", g.At, "%s was not committed, or not in this round", g)
			}
		}
	}
}

// count takes note of what became of a gap's script.
func (c *comparison) count(g harvest.Item) {
	switch done := g.Gap.CatchUp; {
	case done == nil && c.rules.CatchesUp != nil && c.rules.CatchesUp(g.Channel):
		c.find("unread", g.At, "no script was run for %s", g)
	case done == nil:
	case done.Complete:
		c.result.CatchUps["complete"]++
	default:
		c.result.CatchUps[done.Error]++
	}
}

// complete reports whether a gap says that nothing of it is missing.
func complete(g harvest.Item) bool { return g.Gap.CatchUp != nil && g.Gap.CatchUp.Complete }
