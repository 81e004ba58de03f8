package bridge_test

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

const smallQueue = 1 << 20

// outage is a bridge with a small queue and a core and a JetStream channel,
// whose NATS server is down.
type outage struct {
	*world
	*running
	server  *testenv.NATSServer
	link    *testenv.Proxy
	writers []*writer
}

// newOutage stops NATS while nothing is on its way.
func newOutage(t *testing.T, hooks ...func(*bridge.Bridge)) *outage {
	t.Helper()
	server := testenv.NATS(t)
	o := &outage{world: worldWith(t, server), server: server, link: testenv.NewProxy(t, server.Addr())}
	config := o.config(t, map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}})
	config.QueueBytes, config.StopGrace = smallQueue, 2*time.Second
	url := o.link.Reroute(t, o.nats)
	config.Events, config.Requests = connect(t, url), connect(t, url)
	o.running = launch(t, config, hooks...).ready(t)
	for _, channel := range []string{"orders", "audit"} {
		w := newWriter(t, o.pg, channel)
		w.write(t, 10, 10, 200)
		o.heard.awaitEvent(t, "pgbridge.event."+channel, w.commits[9].payload)
		o.writers = append(o.writers, w)
	}
	testenv.Wait(t, patience, "the queues to be empty", func() bool { return o.queued(bridge.DeliveryCore)+o.queued(bridge.DeliveryJetStream) == 0 })
	server.Stop(t)
	o.hasProblem(t, "NATS, events")
	return o
}

func (o *outage) queued(d bridge.Delivery) int64 { return o.Status().QueueBytes[d] }

func (o *outage) write(t *testing.T, n int) {
	t.Helper()
	for _, w := range o.writers {
		w.write(t, n, 500, 200)
	}
}

// over starts NATS again, and lets the bridge reach it when the audience is there.
func (o *outage) over(t *testing.T) {
	t.Helper()
	o.link.Freeze()
	o.server.Start(t)
	o.awaken(t)
	o.link.Thaw()
}

// judged writes once more, waits for that, and compares; it returns the gaps
// after the first, and how many events are missing, for each channel.
func (o *outage) judged(t *testing.T) (gaps map[string][]api.Gap, missing map[string]int) {
	t.Helper()
	gaps, missing = map[string][]api.Gap{}, map[string]int{}
	for _, w := range o.writers {
		w.write(t, 100, 10, 200)
		o.heard.awaitEvent(t, "pgbridge.event."+w.channel, w.commits[len(w.commits)-1].payload)
	}
	testenv.Wait(t, patience, "the queues to be empty", func() bool { return o.queued(bridge.DeliveryCore)+o.queued(bridge.DeliveryJetStream) == 0 })
	stored := o.messages(t)
	chained(t, stored)
	for _, w := range o.writers {
		heard := o.heard
		if w.channel == "audit" {
			heard = &audience{prefix: o.prefix, msgs: stored}
		}
		all := heard.gaps(t, w.channel)
		inPlace(t, w.commits, heard.all(), o.prefix, w.channel)
		missing[w.channel] = judge(t, w.commits, heard.events("pgbridge.event."+w.channel), all)
		gaps[w.channel] = all[1:]
	}
	return gaps, missing
}

// More than the queue holds waits in PostgreSQL while the outage is short.
func TestBurstInShortOutage(t *testing.T) {
	t.Parallel()
	for _, longer := range []bool{false, true} {
		name := "within the lease"
		if longer {
			name = "longer than the lease"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutage(t)
			if longer {
				began := time.Now()
				testenv.Wait(t, patience, "the lease to be over", func() bool { return time.Since(began) > 6*time.Second })
			}
			o.write(t, 15_000)
			testenv.Wait(t, patience, "a queue to be full", func() bool {
				return max(o.queued(bridge.DeliveryCore), o.queued(bridge.DeliveryJetStream)) >= smallQueue
			})
			o.over(t)
			gaps, missing := o.judged(t)
			for channel := range gaps {
				if missing[channel] != 0 || len(gaps[channel]) != 0 {
					t.Errorf("%s: %d events missing, gaps %s; want none", channel, missing[channel], show(gaps[channel]))
				}
			}
		})
	}
}

// A lock that is lost while a queue is full needs a marker that waits behind
// what the queue has no room for.
func TestLockLostWhileFull(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.write(t, 5000)
	testenv.Wait(t, patience, "a queue to be full", func() bool {
		return max(o.queued(bridge.DeliveryCore), o.queued(bridge.DeliveryJetStream)) >= smallQueue
	})
	testenv.TerminateBackend(t, o.pg, "pgbridge")
	o.is(t, "orphan")
	began := time.Now()
	o.over(t)
	gaps, missing := o.judged(t)
	for channel := range gaps {
		if missing[channel] != 0 || len(gaps[channel]) != 0 {
			t.Errorf("%s: %d events missing, gaps %s; want none", channel, missing[channel], show(gaps[channel]))
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the bridge took %s to go on", took)
	}
}

// What an outage outlasts is dropped and counted, and the rest of it is kept.
func TestBurstInLongOutage(t *testing.T) {
	t.Parallel()
	o := newOutage(t, func(b *bridge.Bridge) { b.SetPauseLimit(time.Second) })
	o.write(t, 15_000)
	o.logged(t, "queue is full")
	testenv.Wait(t, patience, "both queues to drop", func() bool { return o.warnings("queue is full") == 2 })
	o.write(t, 15_000)
	released := func() bool {
		return testenv.Value[float64](t, o.pg, "SELECT pg_notification_queue_usage()::float8") < 0.001
	}
	testenv.Wait(t, 4*patience, "PostgreSQL's queue to be released", released)
	for _, d := range []bridge.Delivery{bridge.DeliveryCore, bridge.DeliveryJetStream} {
		if n := o.queued(d); n > smallQueue+1000 {
			t.Errorf("%d bytes are queued for %s, want %d at the most", n, d, smallQueue)
		}
	}
	o.over(t)
	o.heard.awaitGap(t, "orders", api.ReasonOverflow)
	o.heard.awaitGap(t, "audit", api.ReasonOverflow)
	gaps, missing := o.judged(t)
	for channel, all := range gaps {
		counted := int64(0)
		for _, g := range all {
			if g.Reason != api.ReasonOverflow || g.Dropped == nil || g.Since == nil {
				t.Fatalf("%s: gaps %s; want overflow, since and dropped", channel, show(all))
			}
			counted += *g.Dropped
		}
		if counted == 0 || counted != int64(missing[channel]) {
			t.Errorf("%s: gaps %s count %d events, but %d are missing", channel, show(all), counted, missing[channel])
		}
	}
}

// Half a million notifications wait for a NATS server that is away, in little
// memory, and none is lost.
func TestHugeBurstInShortOutage(t *testing.T) {
	t.Parallel()
	const queueBytes = 8 << 20
	each := testenv.Fewer(250_000)
	server := testenv.NATSProcess(t, "")
	w := &world{pg: testenv.Postgres(t).NewDatabase(t), nats: server.URL(), prefix: "pgbridge"}
	w.heard = &audience{prefix: w.prefix}
	orders := &tally{}
	hear(t, w, map[string]nats.MsgHandler{"gap.*": w.heard.add, "probe": w.heard.add, "event.orders": orders.add})
	link := testenv.NewProxy(t, server.Addr())
	behind := *w
	behind.nats = link.Reroute(t, w.nats)
	c := spawn(t, &behind, map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}}, queueBytes)
	w.heard.awaitGap(t, "orders", api.ReasonStarted)
	w.heard.awaitGap(t, "audit", api.ReasonStarted)
	c.settled(t, 2)
	server.Stop(t)
	numbered(t, w.pg, []string{"orders", "audit"}, each)
	c.withinMemory(t, queueBytes)
	link.Freeze()
	server.Start(t)
	w.awaken(t)
	link.Thaw()
	testenv.Wait(t, 2*patience, "every event", func() bool { return orders.next.Load() == int64(each) })
	if n := orders.wrong.Load(); n != 0 {
		t.Errorf("%d events of orders came out of order", n)
	}
	w.awaitStored(t, payload(each-1))
	c.withinMemory(t, queueBytes)
	msgs := w.messages(t)
	chained(t, msgs)
	for i, m := range msgs[1:] {
		if string(m.Data) != payload(i) {
			t.Fatalf("the stream's message %d is %.80s, want event %d", i+2, m.Data, i)
		}
	}
	if n := len(msgs); n != each+1 {
		t.Errorf("the stream holds %d messages, want %d events and one gap", n, each)
	}
	if n := len(w.heard.events("pgbridge.gap.orders")); n != 1 {
		t.Errorf("%d gaps of orders, want the one of the start", n)
	}
}

// hear subscribes below a world's prefix.
func hear(t *testing.T, w *world, handlers map[string]nats.MsgHandler) {
	t.Helper()
	nc := connect(t, w.nats)
	for subject, handler := range handlers {
		sub, err := nc.Subscribe(w.prefix+"."+subject, handler)
		if err != nil {
			t.Fatal(err)
		}
		sub.SetPendingLimits(-1, -1)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// tally counts numbered events without keeping them.
type tally struct{ next, wrong atomic.Int64 }

func (a *tally) add(m *nats.Msg) {
	if n, err := strconv.Atoi(string(m.Data)); err != nil || int64(n) != a.next.Load() {
		a.wrong.Add(1)
	}
	a.next.Add(1)
}

// payload is a number as 200 bytes.
func payload(n int) string { return fmt.Sprintf("%0200d", n) }

// numbered commits as many notifications as payload makes on each channel, a
// thousand to a transaction.
func numbered(t *testing.T, url string, channels []string, each int) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for n := 0; n < each; n += 1000 {
		for _, channel := range channels {
			if _, err := conn.Exec(ctx, "SELECT pg_notify($1, lpad(n::text, 200, '0')) FROM generate_series($2::int, $3::int) n", channel, n, n+999); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// withinMemory checks the child's memory: 64 MiB and twice what its two queues
// may hold. The race detector needs several times as much.
func (c *child) withinMemory(t *testing.T, queueBytes int) {
	t.Helper()
	resident, limit := c.resident(t), 64<<20+2*2*queueBytes
	t.Logf("%d MiB resident", resident>>20)
	info, _ := debug.ReadBuildInfo()
	if resident > limit && !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Errorf("%d MiB resident, want %d at the most", resident>>20, limit>>20)
	}
}
