package bridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// failWhenClosed returns an error when the connection that events go through is closed for
// good. nats.go does that where a server refuses what it was sent, such as a message of more
// bytes than it takes since its configuration was read anew, which it tells nobody. Nothing
// can be published any more then, so giveUp has nobody wait for it.
func failWhenClosed(ctx context.Context, nc *nats.Conn, giveUp func()) error {
	closed := nc.StatusChanged(nats.CLOSED)
	defer nc.RemoveStatusListener(closed)
	if !nc.IsClosed() { // else nothing will change
		select {
		case <-closed:
		case <-ctx.Done():
			return nil
		}
	}
	giveUp()
	return fmt.Errorf("publish events: %w", errors.Join(nats.ErrConnectionClosed, nc.LastError()))
}
