package bridge_test

import (
	"testing"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A standby keeps no more of what is not proved to be published than its ring holds:
// it stops reading when that is full, as the publishing replica does, and nothing is
// lost by it.
func TestFullRing(t *testing.T) {
	t.Parallel()
	const ring = 2 * smallQueue
	server := testenv.NATS(t)
	w := worldWith(t, server)
	link := testenv.NewProxy(t, server.Addr()) // until those who hear it are back
	channels := map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}}
	config := func() bridge.Config {
		c := w.config(t, channels)
		c.Events, c.Requests = connect(t, link.Reroute(t, w.nats)), connect(t, link.Reroute(t, w.nats))
		c.QueueBytes = smallQueue
		return c
	}
	first := launch(t, config()).ready(t)
	second := launch(t, config(), func(b *bridge.Bridge) { b.SetRing(ring) }).standingBy(t)
	writer := newWriter(t, w.pg, "audit")
	writer.write(t, 100, 100, 200)
	w.recorded(t, writer.commits[len(writer.commits)-1].payload)
	server.Stop(t)
	first.hasProblem(t, "NATS, events")
	queued := func(r *running) int64 { return r.Status().QueueBytes[bridge.DeliveryJetStream] }
	writer.write(t, 10_000, 500, 200) // half as much again as the ring holds
	testenv.Wait(t, patience, "the queue and the ring to be full", func() bool {
		return queued(first) >= smallQueue && queued(second) >= ring
	})
	if n := queued(second); n > ring+ring/4 {
		t.Errorf("the standby keeps %d bytes, want %d and what was read already", n, ring)
	}
	server.Start(t)
	writer.write(t, 100, 100, 200)
	stored := w.recorded(t, writer.commits[len(writer.commits)-1].payload)
	gaps := stored.gaps(t, "audit")
	if missing := judge(t, writer.commits, stored.events("pgbridge.event.audit"), gaps); missing != 0 || len(gaps) != 1 {
		t.Errorf("%d events are missing, gaps %s; want none but the one of the start", missing, show(gaps))
	}
	testenv.Wait(t, patience, "the ring to be let go of", func() bool { return queued(first)+queued(second) < smallQueue/2 })
}
