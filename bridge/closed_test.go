package bridge_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A server that takes shorter messages than before tells nobody, and nats.go closes a
// connection for good whose message was too long. The bridge ends then, and whoever starts
// another one finds it publishing, with a gap for what it has missed.
func TestMessagesGetShorter(t *testing.T) {
	t.Parallel()
	for _, delivery := range []bridge.Delivery{bridge.DeliveryCore, bridge.DeliveryJetStream} {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			bus := testenv.NATS(t)
			w := worldWith(t, bus)
			channels := map[string]bridge.Channel{"orders": {Delivery: delivery}}
			first, err := bridge.New(w.config(t, channels))
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- first.Run(t.Context()) }()
			w.heard.awaitGap(t, "orders", api.ReasonStarted)
			bus.Reload(t, func(o *server.Options) { o.MaxPayload = 4000 })
			testenv.Exec(t, w.pg, "SELECT pg_notify('orders', repeat('x', 7000))")
			select {
			case err := <-ended:
				if !errors.Is(err, nats.ErrConnectionClosed) || !strings.Contains(strings.ToLower(err.Error()), "maximum payload") {
					t.Errorf("Run() = %v, want that the connection was closed, and why", err)
				}
			case <-time.After(patience):
				t.Fatal("it goes on without a connection")
			}
			launch(t, w.config(t, channels)).ready(t)
			testenv.Exec(t, w.pg, "SELECT pg_notify('orders', 'short')")
			w.heard.awaitEvent(t, "pgbridge.event.orders", "short")
			if n := len(w.heard.gaps(t, "orders")); n != 2 {
				t.Errorf("%d gaps, want one for each start", n)
			}
		})
	}
}
