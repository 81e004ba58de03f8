package bridge

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// bench is a core publisher without what runs around it.
type bench struct {
	*corePublisher
	route *route
	stats *channelStats
}

func newBench(t *testing.T, url string) *bench {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectBufSize(-1))
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
	return &bench{route: r, stats: newMetrics().of("orders"), corePublisher: &corePublisher{
		nc: nc, queue: q, lease: valid, log: zap.NewNop(), encoder: newEncoder("pgbridge", "db"),
		seq: &sequencer{core: q, stream: newQueue(1 << 20)}, refused: newTrouble("publish", error.Error),
		latency: newMetrics().observer(DeliveryCore), lost: map[*route]*unsent{},
	}}
}

// publishOne publishes an event of the route.
func (b *bench) publishOne(t *testing.T) {
	t.Helper()
	it := item{kind: itemEvent, route: b.route, stats: b.stats, payload: "7", epoch: &epoch{id: "e", time: time.Now()}, n: 1, received: time.Now()}
	b.queue.bytes.Add(it.size())
	if !b.publish(&it) {
		t.Fatal("publish() = false on a connection that works")
	}
}

// lostIs fails unless the route's loss has this count.
func (b *bench) lostIs(t *testing.T, dropped int64) {
	t.Helper()
	u := b.lost[b.route]
	if u == nil {
		t.Fatal("nothing is lost")
	}
	if u.reason != ReasonNATSUnavailable || u.dropped != dropped {
		t.Errorf("loss = %s with %d dropped, want %s with %d", u.reason, u.dropped, ReasonNATSUnavailable, dropped)
	}
	if n := b.stats.published.Load(); n != 0 {
		t.Errorf("published = %d, want 0", n)
	}
	if n := b.queue.bytes.Load(); n != 0 {
		t.Errorf("%d bytes are still held, want 0", n)
	}
}

// An event was handed to nats.go, the link broke and came back, and the ping
// on the new connection is answered: that says nothing about the event.
func TestReconnectLeavesWindowInDoubt(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	proxy := testenv.NewProxy(t, server.Addr())
	b := newBench(t, "nats://"+proxy.Addr())
	b.publishOne(t)
	proxy.Cut()
	testenv.Wait(t, 30*time.Second, "the connection to be another", func() bool { return b.nc.Stats().Reconnects == 1 && b.nc.IsConnected() })
	b.verify()
	b.lostIs(t, unknownCount)
}

// While refusals are about, a gap and the event after it are verified apart:
// the gap arrives once, with its count, and the refused event counts one.
func TestRefusalCountsExactly(t *testing.T) {
	t.Parallel()
	n := testenv.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "b", Password: "b", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"pgbridge.event.>"}}}},
			{Username: "audience", Password: "audience"},
		}
	})
	gaps, err := n.Connect(t, nats.UserInfo("audience", "audience")).SubscribeSync("pgbridge.gap.>")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, "nats://b:b@"+n.Addr())
	b.careful = time.Now().Add(carefulFor)
	b.lost[b.route] = &unsent{loss: loss{reason: ReasonNATSUnavailable, dropped: 5}, stats: b.stats, until: time.Now(), epoch: &epoch{id: "e"}}
	b.publishOne(t)
	b.verify()
	b.lostIs(t, 1)
	m, err := gaps.NextMsg(30 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var g Gap
	if err := json.Unmarshal(m.Data, &g); err != nil || g.Dropped == nil || *g.Dropped != 5 {
		t.Errorf("gap = %s, want 5 dropped", m.Data)
	}
}
