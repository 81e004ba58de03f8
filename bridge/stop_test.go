package bridge_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A bridge that is stopped while writers run publishes all that it received;
// the next one announces what came in between.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	x := newTrial(t, newWorld(t), nil)
	for i := range 2 {
		before := x.heardOf("orders")
		testenv.Wait(t, patience, "events to pass", func() bool { return x.heardOf("orders") > before+200 })
		if err := x.bridge.stop(); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // later ones receive before they hold the lock, too
			x.wantAllPublished(t)
		}
		x.bridge = launch(t, x.config(t, map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}})).ready(t)
	}
	x.awaitGaps(t, bridge.ReasonStarted, 3)
	for _, r := range x.finishInPlace(t, bridge.ReasonStarted) {
		if len(r.gaps) != 3 {
			t.Errorf("%s: gaps %s; want one for each start", r.channel, show(r.gaps))
		}
	}
}

func (x *trial) wantAllPublished(t *testing.T) {
	t.Helper()
	for _, channel := range []string{"orders", "audit"} {
		received := x.bridge.counter(t, "pgbridge_events_received_total", channel)
		published := x.bridge.counter(t, "pgbridge_events_published_total", channel)
		if received == 0 || received != published {
			t.Errorf("%s: %v received, %v published before the stop", channel, received, published)
		}
	}
}

// A bridge that is stopped while NATS is away ends within its grace.
func TestStopWithoutNATS(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.write(t, 100)
	began := time.Now()
	if err := o.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the stop took %s, its grace is 2 s", took)
	}
}

// counter returns one of the bridge's counters for a channel.
func (r *running) counter(t *testing.T, name, channel string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.Bridge)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == channel {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s of %s", name, channel)
	return 0
}
