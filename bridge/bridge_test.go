package bridge_test

import (
	"testing"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestEventsArriveInOrder(t *testing.T) {
	t.Parallel()
	for _, delivery := range []bridge.Delivery{bridge.DeliveryCore, bridge.DeliveryJetStream} {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			launch(t, w.config(t, map[string]bridge.Channel{"orders": {Delivery: delivery}})).ready(t)
			started := w.heard.awaitGap(t, "orders", api.ReasonStarted)
			if started.Since != nil || started.Dropped != nil {
				t.Errorf("started gap = %+v, want since and dropped null", started)
			}
			orders := newWriter(t, w.pg, "orders")
			orders.write(t, testenv.Fewer(5000), 100, 200)
			w.heard.awaitEvent(t, "pgbridge.event.orders", orders.commits[len(orders.commits)-1].payload)
			if n := judge(t, orders.commits, w.heard.events("pgbridge.event.orders"), nil); n != 0 {
				t.Errorf("%d events are missing", n)
			}
			if gaps := w.heard.gaps(t, "orders"); len(gaps) != 1 {
				t.Errorf("gaps = %s, want the one of the start", show(gaps))
			}
		})
	}
}
