package bridge_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
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
	x.awaitGaps(t, api.ReasonStarted, 3)
	for _, r := range x.finishInPlace(t, api.ReasonStarted) {
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

// A bridge that is stopped while PostgreSQL is away does not wait for what can
// no longer be published: neither for a gap nor for events.
func TestStopWithoutPostgres(t *testing.T) {
	t.Parallel()
	pg, n := testenv.DedicatedPostgres(t, testenv.PGOptions{}), testenv.NATS(t)
	w := &world{pg: pg.URL(), nats: n.URL(), prefix: "pgbridge"}
	w.heard = listen(t, w.nats, w.prefix)
	config := w.config(t, map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}})
	config.StopGrace = time.Hour // stop itself waits for less
	r := launch(t, config).ready(t)
	w.heard.awaitGap(t, "orders", api.ReasonStarted)
	pg.Stop(t)
	r.is(t, "orphan")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// counter returns one of the bridge's counters, the one with a label: a channel,
// a reason.
func (r *running) counter(t *testing.T, name, label string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.Bridge)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if family.GetName() == name && l.GetValue() == label {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	t.Fatalf("no metric %s of %s", name, label)
	return 0
}
