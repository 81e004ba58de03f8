package service

import (
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// full are the connections that NATS lets have no more subscriptions. It does not say which
// one it has refused, and nats.go takes all for good until the connection is another one.
type full struct {
	mu    sync.Mutex
	since map[*nats.Conn]uint64 // how often it had been connected again by then
}

// hear takes an error that NATS reports of a connection.
func (f *full) hear(nc *nats.Conn, err error) {
	if !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since == nil {
		f.since = make(map[*nats.Conn]uint64)
	}
	f.since[nc] = nc.Stats().Reconnects
}

// problem says that a connection lacks subscriptions; empty: it does not.
func (f *full) problem(nc *nats.Conn) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if since, heard := f.since[nc]; !heard || since != nc.Stats().Reconnects {
		return ""
	}
	return fmt.Sprintf("NATS refuses subscriptions of the connection %q, which may have no more: not all requests arrive", nc.Opts.Name)
}
