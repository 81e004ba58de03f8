package control

import (
	"context"
	"time"
)

const (
	// lookEvery is how often the name is followed anew: a connection lives on
	// where the name no longer leads to.
	lookEvery = 10 * time.Second
	askEvery  = time.Second // other replicas, while they are elsewhere
)

// Database is the identity of the database that the present session is in; empty
// while there is none.
func (c *Control) Database() string {
	if p := c.here.Load(); p != nil {
		return p.Database
	}
	return ""
}

// Follow looks again and again where the connection settings lead, and at once
// when the two sessions may be on different servers. What is elsewhere is left.
func (c *Control) Follow(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			c.lookAgain(ctx)
		case <-c.Astray:
			c.lookAgain(ctx)
		case <-c.Moved:
			if there, here := c.Elsewhere(""), c.here.Load(); here != nil && there != "" && there != here.Instance {
				c.lookAgain(ctx)
			}
		}
	}
}

// lookAgain follows the name and leaves every server but the one it leads to.
func (c *Control) lookAgain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	conn, now, err := c.connect(ctx)
	if err != nil {
		return // that it cannot be reached is the sessions' to notice
	}
	closeConn(ctx, conn)
	c.askAll(ctx) // so that it is known who has to be heard when the server changes
	c.Elsewhere(now.Instance)
	if here := c.here.Load(); here != nil && here.Instance != now.Instance {
		c.Leave.Raise()
	}
}

// Server tells the server that the present session is on from every other one;
// empty while there is none.
func (c *Control) Server() string {
	if p := c.here.Load(); p != nil {
		return p.Server()
	}
	return ""
}
