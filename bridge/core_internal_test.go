package bridge

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// An event was handed to nats.go, the link broke and came back, and the ping
// on the new connection is answered: that says nothing about the event.
func TestReconnectLeavesWindowInDoubt(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	proxy := testenv.NewProxy(t, server.Addr())
	nc, err := nats.Connect("nats://"+proxy.Addr(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	r, err := newRoute("orders", Channel{}, "pgbridge")
	if err != nil {
		t.Fatal(err)
	}
	valid := newLease()
	valid.confirmed.Store(true)
	valid.renew(time.Now().Add(time.Hour))
	q := newQueue(1 << 20)
	p := &corePublisher{
		nc: nc, queue: q, lease: valid, log: zap.NewNop(), encoder: newEncoder("pgbridge", "db"),
		seq: &sequencer{core: q, stream: newQueue(1 << 20)}, refused: newTrouble("publish", error.Error),
		latency: newMetrics().observer(DeliveryCore), lost: map[*route]*unsent{},
	}
	stats := newMetrics().of("orders")
	it := item{kind: itemEvent, route: r, stats: stats, payload: "7", epoch: &epoch{id: "e", time: time.Now()}, n: 1, received: time.Now()}
	q.bytes.Add(it.size())
	if !p.publish(&it) {
		t.Fatal("publish() = false on a connection that works")
	}
	proxy.Cut()
	testenv.Wait(t, 30*time.Second, "the connection to be another", func() bool { return nc.Stats().Reconnects == 1 && nc.IsConnected() })
	p.verify()
	u := p.lost[r]
	if u == nil {
		t.Fatal("nothing is in doubt")
	}
	if u.reason != ReasonNATSUnavailable || u.dropped != unknownCount {
		t.Errorf("loss = %s with %d dropped, want %s with an unknown count", u.reason, u.dropped, ReasonNATSUnavailable)
	}
	if n := stats.published.Load(); n != 0 {
		t.Errorf("published = %d, want 0", n)
	}
	if n := q.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are still held, want 0", n)
	}
}
