package bridge

import (
	"context"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/catchup"
	"github.com/pgbridge/pgbridge/bridge/internal/control"
)

// CatchUp runs a script that returns what the notifications of a window would have told,
// and calls row with each payload, in order; row may block until its context ends. It returns when all rows were
// handed out, when row returns an error, or when ctx ends, and is to limit its own time:
// nothing else of the channel's delivery is published meanwhile. After an error the
// gap says that it is not caught up. It is called from several goroutines.
type CatchUp func(ctx context.Context, w Window, row func(ctx context.Context, payload []byte) error) error

// Window is a stretch of PostgreSQL's clock in which notifications of a channel may be
// missing.
type Window struct {
	Channel, Script string
	// Since is when the oldest transaction began that ran when the loss did: whatever was
	// missed has a now() behind it. Zero: nothing is known of the time before.
	Since time.Time
	Until time.Time
}

// newSweeper makes what runs the scripts of one publisher.
func newSweeper(run CatchUp, c *control.Control) *catchup.Sweeper {
	return &catchup.Sweeper{
		Begin: c.Begin,
		Run: func(ctx context.Context, w catchup.Window, row func(context.Context, []byte) error) error {
			return run(ctx, Window(w), row)
		},
	}
}
