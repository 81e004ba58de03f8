package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/processors"
)

const (
	// resubscribeAfter is when a refused subscription is tried again.
	resubscribeAfter = 5 * time.Second
	// deliverTimeout is how long NATS may take to confirm what it was sent.
	deliverTimeout = 10 * time.Second
)

// host is what a service and its endpoints share.
type host struct {
	config  Config
	nc      *nats.Conn
	retry   time.Duration // until a refused subscription is tried again
	waiting int           // requests of one endpoint, at most
	metrics *metrics
	// readers has a token for each large body that is being read.
	readers chan struct{}
	// settling are the private endpoints' ways of waiting until what they have
	// received was looked at.
	settling []func(context.Context) error
	full     full
}

func newHost(nc *nats.Conn, config Config) *host {
	return &host{
		config: config, nc: nc, retry: resubscribeAfter, waiting: api.MaxWaiting, metrics: newMetrics(),
		readers: make(chan struct{}, max(1, processors.Most()-1)),
	}
}

func (h *host) connections() []*nats.Conn {
	if h.config.Lasting == h.nc {
		return []*nats.Conn{h.nc}
	}
	return []*nats.Conn{h.nc, h.config.Lasting}
}

// maxReplyBytes is how long a reply subject may be. A chunk is published to it with a
// reply subject of its own, and nats-server cuts off whoever sends a line of more than
// 4 KiB: with him everybody's transactions.
const maxReplyBytes = 1 << 10

// replyAllowed reports whether an answer may be published to subject. NATS refuses one with an
// empty token, and tells us of each.
func (h *host) replyAllowed(subject string) bool {
	if strings.Contains(subject, "..") || strings.HasSuffix(subject, ".") {
		return false
	}
	return len(subject) <= maxReplyBytes && slices.ContainsFunc(h.config.ReplyPrefixes, func(prefix string) bool {
		rest, ok := strings.CutPrefix(subject, prefix)
		return ok && (rest == "" || rest[0] == '.')
	})
}

// flush returns when the server has seen all that was sent through nc. It waits
// for an answer, but not for a connection.
func flush(ctx context.Context, nc *nats.Conn, timeout time.Duration) error {
	if !nc.IsConnected() && !nc.IsClosed() {
		return nats.ErrDisconnected // a flush would be forgotten by the reconnect
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("flush to NATS: %w", err)
	}
	return nil
}

// settle returns when the server has seen all that was sent through nc, and what it
// sent to private endpoints before it had was looked at.
func (h *host) settle(ctx context.Context, nc *nats.Conn) error {
	if err := flush(ctx, nc, deliverTimeout); err != nil {
		return err
	}
	if nc != h.config.Lasting { // NATS's word on what nc has brought comes there
		if err := flush(ctx, h.config.Lasting, deliverTimeout); err != nil {
			return err
		}
	}
	for _, settle := range h.settling {
		if err := settle(ctx); err != nil {
			return err
		}
	}
	return nil
}
