package bridge_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// links are one replica's connections to both servers, through proxies.
type links struct{ pg, nats *testenv.Proxy }

func newLinks(t *testing.T, w *world, server natsServer) *links {
	return &links{pg: testenv.NewProxy(t, testenv.Postgres(t).Addr()), nats: testenv.NewProxy(t, server.Addr())}
}

// through makes a bridge use the links.
func (l *links) through(t *testing.T, w *world) func(*bridge.Config) {
	return func(c *bridge.Config) {
		c.ConnString = l.pg.Reroute(t, w.pg)
		c.Events, c.Requests = connect(t, l.nats.Reroute(t, w.nats)), connect(t, l.nats.Reroute(t, w.nats))
		c.Stream.DuplicateWindow = shortWindow
	}
}

func (l *links) freeze() { l.pg.Freeze(); l.nats.Freeze() }

// thaw lets the replica reach the servers again, by new connections: what was
// on its way is lost, as on a dead link.
func (l *links) thaw() {
	l.pg.Cut()
	l.nats.Cut()
	l.pg.Thaw()
	l.nats.Thaw()
}

// standby launches a second replica, and waits until the first has told it how
// far it is.
func (x *trial) standby(t *testing.T, changes ...func(*bridge.Config)) *running {
	t.Helper()
	config := x.config(t, map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}})
	for _, change := range changes {
		change(&config)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, x.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `LISTEN "pgbridge.marker"`); err != nil {
		t.Fatal(err)
	}
	second := launch(t, config).standingBy(t)
	for _, role := range []string{" standby ", " publishing "} {
		for heard := ""; !strings.Contains(heard, role); {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				t.Fatalf("wait for a marker that says%s: %v", role, err)
			}
			heard = n.Payload
		}
	}
	return second
}

// standingBy waits until a replica is ready and leaves publishing to another.
func (r *running) standingBy(t *testing.T) *running {
	t.Helper()
	testenv.Wait(t, patience, "the replica to stand by", func() bool {
		return r.Status().State == "standby" && len(r.Problems()) == 0
	})
	return r
}

func TestTakeover(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault func(*running, *links) error
		limit time.Duration // for the takeover
		gaps  int           // of core NATS: none where the one before could say how far it was
	}{
		{"stopped", func(r *running, _ *links) error { return r.stop() }, 4 * time.Second, 0},
		{"links closed and dead", func(_ *running, l *links) error { l.freeze(); l.pg.Cut(); l.nats.Cut(); return nil }, 4 * time.Second, 1},
		{"links frozen", func(_ *running, l *links) error { l.freeze(); return nil }, 10 * time.Second, 1},
		{"NATS link frozen", func(_ *running, l *links) error { l.nats.Freeze(); return nil }, 10 * time.Second, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := testenv.NATS(t)
			w := worldWith(t, server)
			way := newLinks(t, w, server)
			x := newTrial(t, w, nil, way.through(t, w))
			first, second := x.bridge, x.standby(t)
			before := x.heardOf("orders")
			testenv.Wait(t, patience, "events to pass", func() bool { return x.heardOf("orders") > before+50 })

			began := time.Now()
			if err := tt.fault(first, way); err != nil {
				t.Fatal(err)
			}
			second.is(t, "publishing")
			if took := time.Since(began); took > tt.limit {
				t.Errorf("the takeover took %s, want %s at the most", took, tt.limit)
			}
			x.bridge = second.ready(t)
			x.flows(t)
			if tt.name != "stopped" {
				way.thaw()
				first.standingBy(t)
				if err := second.stop(); err != nil {
					t.Fatal(err)
				}
				x.bridge = first.ready(t)
				x.flows(t)
			}
			r := x.finishInPlace(t) // without a gap in the stream
			if n := r["audit"].missing; n != 0 {
				t.Errorf("%d events are missing in the stream", n)
			}
			gaps := r["orders"].gaps[1:]
			if slices.ContainsFunc(gaps, func(g api.Gap) bool { return g.Since == nil }) {
				t.Errorf("gaps %s; since is null", show(gaps))
			}
			// Without a fence in core NATS a gap is allowed where there was none to be.
			if len(gaps) > 1 || len(gaps) < tt.gaps {
				t.Errorf("gaps of core NATS %s, want %d, or 1", show(gaps), tt.gaps)
			}
		})
	}
}

// A process that is killed leaves publishing to another. One that is frozen
// does too, and when it goes on it publishes nothing that it still had.
func TestTakeoverFromAProcess(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{syscall.SIGKILL, 4 * time.Second}, {syscall.SIGSTOP, 10 * time.Second}} {
		t.Run(tt.signal.String(), func(t *testing.T) {
			t.Parallel()
			x := &trial{world: worldWith(t, testenv.NATS(t))}
			first := spawn(t, x.world, map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}}, 0)
			x.awaitGaps(t, api.ReasonStarted, 1)
			x.write(t, x.pg)
			second := x.standby(t)
			x.bridge = second
			before := x.heardOf("orders")
			testenv.Wait(t, patience, "events to pass", func() bool { return x.heardOf("orders") > before+50 })
			began := time.Now()
			first.Signal(t, tt.signal)
			second.is(t, "publishing")
			if took := time.Since(began); took > tt.limit {
				t.Errorf("the takeover took %s, want %s at the most", took, tt.limit)
			}
			x.flows(t)
			if tt.signal == syscall.SIGSTOP {
				first.Signal(t, syscall.SIGCONT)
				x.awaitSession(t, "child", began)
			}
			if n := x.finishInPlace(t)["audit"].missing; n != 0 {
				t.Errorf("%d events are missing in the stream", n)
			}
		})
	}
}

// awaitSession waits for a session of this name that is newer than a moment.
func (w *world) awaitSession(t *testing.T, name string, after time.Time) {
	t.Helper()
	testenv.Wait(t, patience, "a new session of "+name, func() bool {
		return testenv.Value[int64](t, w.pg, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = $1 AND backend_start > $2`, name, after) > 0
	})
}

// A stream refuses what a replica that was cut off sent before, however late
// it comes.
func TestLateMessagesAreFenced(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	w := worldWith(t, server)
	way := newLinks(t, w, server)
	config := w.config(t, map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}})
	second := config
	way.through(t, w)(&config)
	first := launch(t, config).ready(t)
	taker := launch(t, second).standingBy(t)
	audit := newWriter(t, w.pg, "audit")
	audit.write(t, 100, 10, 200)
	w.awaitStored(t, audit.commits[99].payload)
	way.nats.Freeze()
	audit.write(t, 2000, 100, 200)
	taker.is(t, "publishing")
	audit.write(t, 100, 10, 200)
	w.awaitStored(t, audit.commits[len(audit.commits)-1].payload)
	way.nats.Thaw()
	first.standingBy(t)
	w.settled(t, taker, audit)
}

// One replica alone keeps what it has, however long NATS is away.
func TestSingleReplicaKeepsItsQueue(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	began := time.Now()
	testenv.Wait(t, patience, "the outage to outlast the lease", func() bool {
		o.write(t, 10)
		return time.Since(began) > 8*time.Second
	})
	o.over(t)
	gaps, missing := o.judged(t)
	for channel := range gaps {
		if missing[channel] != 0 || len(gaps[channel]) != 0 {
			t.Errorf("%s: %d events missing, gaps %s; want none", channel, missing[channel], show(gaps[channel]))
		}
	}
}

// Replicas of two prefixes in one database do not know each other.
func TestTwoPrefixes(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	database := testenv.Postgres(t).NewDatabase(t)
	worlds := map[string]*world{}
	channels := map[string]bridge.Channel{
		"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream},
		"one": {}, "two": {}, "one.two": {}, // named like prefixes
	}
	for _, prefix := range []string{"one", "two", "one.two"} {
		w := &world{pg: database, nats: server.URL(), prefix: prefix}
		w.heard = listen(t, w.nats, prefix)
		launch(t, w.config(t, channels)).ready(t)
		worlds[prefix] = w
	}
	writers := map[string]*writer{}
	for channel := range channels {
		writers[channel] = newWriter(t, database, channel)
		writers[channel].write(t, 500, 50, 50)
	}
	for prefix, w := range worlds {
		for channel, s := range writers {
			subject := fmt.Sprintf("%s.event.%s", prefix, token(channel))
			w.heard.awaitEvent(t, subject, s.commits[499].payload)
			if n := judge(t, s.commits, w.heard.events(subject), nil); n != 0 {
				t.Errorf("%s: %d events of %s are missing", prefix, n, channel)
			}
			if gaps := w.heard.gaps(t, token(channel)); len(gaps) != 1 || gaps[0].Reason != api.ReasonStarted {
				t.Errorf("%s: gaps of %s %s; want the one of the start", prefix, channel, show(gaps))
			}
		}
	}
}

// A channel named like another prefix's marker channel carries its markers,
// and neither side minds.
func TestForeignMarkers(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	w := worldWith(t, server)
	r := launch(t, w.config(t, map[string]bridge.Channel{"other.marker": {}, "orders": {}})).ready(t)
	other := &world{pg: w.pg, nats: w.nats, prefix: "other"}
	other.heard = listen(t, w.nats, "other")
	launch(t, other.config(t, map[string]bridge.Channel{"orders": {}, "pgbridge.marker": {}})).ready(t)
	testenv.Wait(t, patience, "the other's marker", func() bool { return len(w.heard.events("pgbridge.event.other%2Emarker")) > 0 })
	for _, forged := range []string{"", "x", "a b c d e f", "a 1 0123456789abcdef publishing 0 99999999999999999999"} {
		testenv.Exec(t, w.pg, "SELECT pg_notify('pgbridge.marker', $1)", forged)
	}
	orders := newWriter(t, w.pg, "orders")
	orders.write(t, 100, 10, 20)
	for _, each := range []*world{w, other} {
		subject := each.prefix + ".event.orders"
		each.heard.awaitEvent(t, subject, orders.commits[99].payload)
		judge(t, orders.commits, each.heard.events(subject), nil)
	}
	if p := r.Problems(); len(p) != 0 {
		t.Errorf("Problems() = %q, want none", p)
	}
}

// token is a channel as the tests' subjects have it.
func token(channel string) string {
	if channel == "one.two" {
		return "one%2Etwo"
	}
	return channel
}
