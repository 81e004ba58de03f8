package publish

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// bench is a core publisher without what runs around it.
type bench struct {
	*CorePublisher
	route *event.Route
	stats *event.Counters
}

func newBench(t *testing.T, url string) *bench {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	r, err := event.NewRoute("orders", "pgbridge", event.RouteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	valid := lease.New()
	valid.Confirm(true)
	valid.Renew(time.Now().Add(time.Hour))
	q := queue.New(1 << 20)
	return &bench{route: r, stats: event.NewCounters("orders"), CorePublisher: &CorePublisher{
		NC: nc, Queue: q, Lease: valid, Log: zap.NewNop(), Encoder: event.NewEncoder("pgbridge", "db"),
		Seq: &sequence.Sequencer{Core: q, Stream: queue.New(1 << 20)}, Refused: problem.New(part.Publish, error.Error),
		Latency: prometheus.NewHistogram(prometheus.HistogramOpts{}), lost: losses{},
	}}
}

// publishOne publishes an event of the route.
func (b *bench) publishOne(t *testing.T) {
	t.Helper()
	it := event.Item{Kind: event.KindEvent, Route: b.route, Counters: b.stats, Payload: "7", Epoch: &event.Epoch{ID: "e", Time: time.Now()}, N: 1, Received: time.Now()}
	b.Queue.Hold(it.Size())
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
	if u.Reason != api.ReasonNATSUnavailable || u.Dropped != dropped {
		t.Errorf("loss = %s with %d dropped, want %s with %d", u.Reason, u.Dropped, api.ReasonNATSUnavailable, dropped)
	}
	if n := b.stats.Published.Load(); n != 0 {
		t.Errorf("published = %d, want 0", n)
	}
	if n := b.Queue.Bytes(); n != 0 {
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
	testenv.Wait(t, 30*time.Second, "the connection to be another", func() bool { return b.NC.Stats().Reconnects == 1 && b.NC.IsConnected() })
	b.verify()
	b.lostIs(t, event.UnknownCount)
}

// Where the link broke and came back before anybody asked, the gap of what may be lost
// comes before what is published next.
func TestGapComesFirstOnANewConnection(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	proxy := testenv.NewProxy(t, server.Addr())
	b := newBench(t, "nats://"+proxy.Addr())
	heard := hear(t, server, "pgbridge.>")
	b.publishOne(t)
	b.verify()
	b.publishOne(t)
	if _, err := heard.NextMsg(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	testenv.Wait(t, 30*time.Second, "the connection to be another", func() bool { return b.NC.Stats().Reconnects == 1 && b.NC.IsConnected() })
	next := event.Item{Kind: event.KindEvent, Route: b.route, Counters: b.stats, Payload: "8", Epoch: &event.Epoch{ID: "e", Time: time.Now()}, N: 2, Received: time.Now()}
	b.Queue.Hold(next.Size())
	for !b.publish(&next) {
		b.verify()
	}
	b.verify()
	gap := false
	for range 3 { // the one in doubt may have arrived
		m, err := heard.NextMsg(30 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) == "8" {
			break
		}
		gap = gap || m.Subject == b.route.GapSubject
	}
	if !gap {
		t.Error("the next event came before the gap")
	}
}

// After a refusal a gap and the event after it are verified one by one:
// the gap arrives once, with its count, and the refused event counts one.
func TestRefusalCountsExactly(t *testing.T) {
	t.Parallel()
	n := testenv.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "b", Password: "b", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"pgbridge.event.>"}}}},
			{Username: "audience", Password: "audience"},
		}
	})
	gaps := hear(t, n, "pgbridge.gap.>")
	b := newBench(t, "nats://b:b@"+n.Addr())
	b.careful = time.Now().Add(carefulFor)
	b.everyone = b.careful
	b.lost[b.route] = &unsent{Loss: event.Loss{Reason: api.ReasonNATSUnavailable, Dropped: 5}, stats: b.stats, until: time.Now(), epoch: &event.Epoch{ID: "e"}}
	b.publishOne(t)
	b.verify()
	b.lostIs(t, 1)
	m, err := gaps.NextMsg(30 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var g api.Gap
	if err := json.Unmarshal(m.Data, &g); err != nil || g.Dropped == nil || *g.Dropped != 5 {
		t.Errorf("gap = %s, want 5 dropped", m.Data)
	}
}

// Where a refusal took a window with it, nobody knows what of it arrived. Each channel's
// gap comes before what is published of it next, and of what is refused for sure nothing
// is tried for a while: it counts, and the gap comes first there, too.
func TestGapComesFirstBehindARefusal(t *testing.T) {
	t.Parallel()
	n := testenv.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "b", Password: "b", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"pgbridge.event.secret"}}}},
			{Username: "audience", Password: "audience"},
		}
	})
	heard := hear(t, n, "pgbridge.>")
	b := newBench(t, "nats://b:b@"+n.Addr())
	orders, secret := b.route, secretRoute(t)
	b.publishOne(t)
	ofOrders, ofSecret := b.stats, event.NewCounters("secret")
	b.route, b.stats = secret, ofSecret
	b.publishOne(t)
	b.verify()
	next := func(want string) {
		t.Helper()
		if m, err := heard.NextMsg(30 * time.Second); err != nil || m.Subject != want {
			t.Fatalf("the next message is %+v, %v; want one on %s", m, err, want)
		}
	}
	next("pgbridge.event.orders")
	b.route, b.stats = orders, ofOrders
	b.publishOne(t)
	next("pgbridge.gap.orders")
	next("pgbridge.event.orders")
	b.route, b.stats = secret, ofSecret
	b.announceAt = time.Time{}
	b.publishOne(t)
	b.verify() // it is refused, and alone
	next("pgbridge.gap.secret")
	b.announceAt = time.Now().Add(time.Hour)
	tried := b.NC.Stats().OutMsgs
	b.publishOne(t)
	b.lostIs(t, 2)
	if n := b.NC.Stats().OutMsgs - tried; n != 0 {
		t.Errorf("%d messages were sent on a subject that was refused a moment ago", n)
	}
}

// What NATS refuses of one channel has events of others go on in windows of many; only
// what may be refused once more is alone, so that nothing else is lost with it.
func TestRefusalKeepsOthersTogether(t *testing.T) {
	t.Parallel()
	n := testenv.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "b", Password: "b", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"pgbridge.event.secret"}}}},
			{Username: "audience", Password: "audience"},
		}
	})
	b := newBench(t, "nats://b:b@"+n.Addr())
	orders, ofOrders, secret, ofSecret := b.route, b.stats, secretRoute(t), event.NewCounters("secret")
	for range 3 {
		b.route, b.stats = secret, ofSecret
		b.announceAt = time.Time{} // it is tried again
		b.publishOne(t)
		b.verify()
		b.route, b.stats = orders, ofOrders
		for i := range 3 {
			b.publishOne(t)
			if len(b.window) != i+1 {
				t.Fatalf("a window of %d behind %d events of a channel that nothing was refused of", len(b.window), i+1)
			}
		}
	}
	b.verify()
	if b.lost[orders] != nil || ofOrders.Published.Load() != 9 {
		t.Errorf("%d events were published and %+v is lost, want 9 and nothing", ofOrders.Published.Load(), b.lost[orders])
	}
	b.everyone = time.Now().Add(time.Hour)
	b.publishOne(t)
	b.publishOne(t)
	if len(b.window) != 1 {
		t.Errorf("a window of %d where anything may be refused, want 1", len(b.window))
	}
}

// A gap that is refused takes no other gap along.
func TestRefusedGapIsAlone(t *testing.T) {
	t.Parallel()
	n := testenv.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "b", Password: "b", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"pgbridge.*.secret"}}}},
			{Username: "audience", Password: "audience"},
		}
	})
	heard := hear(t, n, "pgbridge.>")
	b := newBench(t, "nats://b:b@"+n.Addr())
	orders, ofOrders, secret := b.route, b.stats, secretRoute(t)
	b.route, b.stats = secret, event.NewCounters("secret")
	b.publishOne(t)
	b.verify() // it is refused
	b.route, b.stats = orders, ofOrders
	for range 10 { // in any order
		b.lost[orders] = &unsent{Loss: event.Loss{Reason: api.ReasonStarted}, stats: ofOrders, until: time.Now(), epoch: &event.Epoch{ID: "e"}}
		b.announceAt = time.Time{}
		b.publishOne(t)
		b.verify()
		if b.lost[orders] != nil {
			t.Fatal("the gap of another channel was lost with the one that was refused")
		}
		for _, want := range []string{orders.GapSubject, "pgbridge.event.orders"} {
			if m, err := heard.NextMsg(30 * time.Second); err != nil || m.Subject != want {
				t.Fatalf("the next message is %+v, %v; want one on %s", m, err, want)
			}
		}
	}
}

// hear subscribes as the audience; the server knows of it when this returns.
func hear(t *testing.T, n *testenv.NATSServer, subject string) *nats.Subscription {
	t.Helper()
	nc := n.Connect(t, nats.UserInfo("audience", "audience"))
	sub, err := nc.SubscribeSync(subject)
	if err == nil {
		err = nc.FlushTimeout(30 * time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func secretRoute(t *testing.T) *event.Route {
	t.Helper()
	r, err := event.NewRoute("secret", "pgbridge", event.RouteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
