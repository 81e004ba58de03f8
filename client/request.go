package client

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client/internal/request"
)

// exchange sends a request, again where that is safe, and returns the reply that
// is no error.
func (c *Client) exchange(ctx context.Context, r request.Request) (*nats.Msg, error) {
	reply, err := c.requests.Exchange(ctx, r)
	return reply, public(err)
}

// decode reads a reply's body.
func decode(m *nats.Msg, into any) error {
	if err := json.Unmarshal(m.Data, into); err != nil {
		return fmt.Errorf("read the reply on %s: %w", m.Subject, err)
	}
	return nil
}
