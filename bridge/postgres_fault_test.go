package bridge_test

import (
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestBackendTerminated(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, sessions    string
		listener, control bool
	}{
		{"listener", "pgbridge listener %", true, false},
		{"control", "pgbridge", false, true},
		{"both", "pgbridge%", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newTrial(t, newWorld(t), nil)
			for i := range 4 {
				held := x.held()
				began := time.Now()
				testenv.TerminateBackend(t, x.pg, tt.sessions)
				lost := interval{began, time.Now()}
				if tt.listener {
					x.awaitGaps(t, api.ReasonReconnected, i+1)
					checkWindow(t, x.heard.gaps(t, "orders"), lost)
				}
				if tt.control {
					testenv.Wait(t, patience, "the lock to be taken again", func() bool { return x.held() > held })
				}
				x.bridge.ready(t)
				x.flows(t)
			}
			for _, r := range x.finish(t) {
				if !tt.listener && (r.missing != 0 || len(r.gaps) != 1) {
					t.Errorf("%s: %d events missing, gaps %s; want none but the one of the start", r.channel, r.missing, show(r.gaps))
				}
				if tt.listener && len(r.gaps) != 5 {
					t.Errorf("%s: gaps %s; want started and 4 reconnected", r.channel, show(r.gaps))
				}
			}
		})
	}
}

// interval is when something happened: no earlier than begin, no later than end.
type interval struct{ begin, end time.Time }

// checkWindow checks the newest gap of a connection that was lost at a moment,
// against the clock, which PostgreSQL on the same machine shares.
func checkWindow(t *testing.T, gaps []api.Gap, lost interval) {
	t.Helper()
	g := gaps[len(gaps)-1]
	switch {
	case g.Since == nil:
		t.Errorf("gap %s: since is null", show(gaps))
	case g.Since.After(lost.end) || g.Since.Before(lost.begin.Add(-patience)):
		t.Errorf("gap %s: the connection was lost at %v, long after since or before it", show(gaps), lost)
	case g.Until.Before(lost.begin) || g.Until.After(time.Now().Add(time.Second)):
		t.Errorf("gap %s: until is not between the loss at %v and now", show(gaps), lost)
	case g.Dropped != nil:
		t.Errorf("gap %s: dropped is known", show(gaps))
	}
}

// When the control session fails, the listener looks at its link at once.
func TestOneSessionFailsAndTheOtherLooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	launch(t, w.config(t, map[string]bridge.Channel{"orders": {}}), func(b *bridge.Bridge) { b.SetPingInterval(time.Hour) }).ready(t)
	const lastQuery = `SELECT coalesce(max(query_start)::text, '') FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'pgbridge listener %'`
	before := testenv.Value[string](t, w.pg, lastQuery)
	testenv.TerminateBackend(t, w.pg, "pgbridge")
	testenv.Wait(t, patience, "a ping of the listener's", func() bool { return testenv.Value[string](t, w.pg, lastQuery) != before })
}

// The listener is not given the time to come to rest.
func TestBackendTerminatedAgainAndAgain(t *testing.T) {
	t.Parallel()
	x := newTrial(t, newWorld(t), nil)
	const times = 6
	var last int
	for range times {
		testenv.Wait(t, patience, "another listener", func() bool {
			pid := testenv.Value[int](t, x.pg, `SELECT coalesce(max(pid) FILTER (WHERE pid <> $1), 0) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name LIKE 'pgbridge listener %'`, last)
			if pid != 0 {
				last = pid
			}
			return pid != 0
		})
		testenv.Exec(t, x.pg, "SELECT pg_terminate_backend($1)", last)
	}
	testenv.Wait(t, patience, "the last connection", func() bool { return x.connected() == times+1 })
	x.finish(t)
}

func TestPostgresOutage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		end   func(*testing.T, *testenv.PG)
		away  time.Duration
		times int
	}{
		{"stopped for 30 s", func(t *testing.T, pg *testenv.PG) { pg.Stop(t) }, 30 * time.Second, 1},
		{"restarted", func(t *testing.T, pg *testenv.PG) { pg.Stop(t) }, 0, 2},
		{"killed", func(t *testing.T, pg *testenv.PG) { pg.Kill(t) }, 0, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
			x := newTrial(t, worldOn(t, pg.NewDatabase(t)), nil)
			for i := range tt.times {
				began := time.Now()
				lines := x.bridge.warnings()
				tt.end(t, pg)
				lost := interval{began, time.Now()}
				<-time.After(tt.away)
				pg.Start(t)
				x.awaitGaps(t, api.ReasonReconnected, i+1)
				checkWindow(t, x.heard.gaps(t, "orders"), lost)
				if n := x.bridge.warnings() - lines; n < 2 || n > 12 {
					t.Errorf("%d warnings in one outage, want one for each session and change of cause", n)
				}
				x.bridge.ready(t)
				x.flows(t)
			}
			x.finish(t)
		})
	}
}

func TestBothServersDown(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"PostgreSQL", "NATS"} {
		t.Run(first+" comes back first", func(t *testing.T) {
			t.Parallel()
			pg, n := testenv.DedicatedPostgres(t, testenv.PGOptions{}), testenv.NATS(t)
			w := &world{pg: pg.NewDatabase(t), nats: n.URL(), prefix: "pgbridge"}
			w.heard = listen(t, w.nats, w.prefix)
			x := newTrial(t, w, nil)
			pg.Kill(t)
			n.Stop(t)
			x.bridge.hasProblem(t, "NATS")
			x.bridge.hasProblem(t, "listener")
			if first == "NATS" {
				n.Start(t)
				pg.Start(t)
			} else {
				pg.Start(t)
				testenv.Wait(t, patience, "the listener to be back", func() bool { return x.connected() == 2 })
				n.Start(t)
			}
			x.bridge.ready(t)
			w.awaken(t)
			x.finishStream(t)
		})
	}
}

// awaken waits until the audience hears again.
func (w *world) awaken(t *testing.T) {
	t.Helper()
	nc := connect(t, w.nats)
	testenv.Wait(t, patience, "the audience to be back", func() bool {
		nc.Publish(w.prefix+".probe", nil)
		return len(w.heard.events(w.prefix+".probe")) > 0
	})
}

func TestLinkFrozen(t *testing.T) {
	t.Parallel()
	t.Run("until noticed by the listener", func(t *testing.T) {
		t.Parallel()
		proxy := testenv.NewProxy(t, testenv.Postgres(t).Addr())
		x := newTrial(t, newWorld(t), proxy)
		began := time.Now()
		proxy.Freeze()
		lost := interval{began, time.Now()}
		x.bridge.hasProblem(t, "listener")
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the frozen link was noticed after %s, want 15 s", took)
		}
		proxy.Thaw()
		x.awaitGaps(t, api.ReasonReconnected, 1)
		checkWindow(t, x.heard.gaps(t, "orders"), lost)
		x.finish(t)
	})
	t.Run("shortly", func(t *testing.T) {
		t.Parallel()
		proxy := testenv.NewProxy(t, testenv.Postgres(t).Addr())
		x := newTrial(t, newWorld(t), proxy)
		proxy.Freeze()
		x.bridge.hasProblem(t, "control session")
		proxy.Thaw()
		for _, r := range x.finish(t) {
			if r.missing != 0 || len(r.gaps) != 1 {
				t.Errorf("%s: %d events missing, gaps %s; want none: PostgreSQL held them back", r.channel, r.missing, show(r.gaps))
			}
		}
	})
	t.Run("and cut", func(t *testing.T) {
		t.Parallel()
		proxy := testenv.NewProxy(t, testenv.Postgres(t).Addr())
		x := newTrial(t, newWorld(t), proxy)
		for i := range 3 {
			proxy.Freeze()
			x.bridge.hasProblem(t, "control session")
			proxy.Cut()
			x.bridge.hasProblem(t, "listener")
			proxy.Thaw()
			x.awaitGaps(t, api.ReasonReconnected, i+1)
			x.bridge.ready(t)
			x.flows(t)
		}
		x.finish(t)
	})
}

// A firewall forgets the link of the session that has the lock, which the server does
// not learn: the session that comes after it ends that one, and nothing is lost.
func TestLockLeftBehind(t *testing.T) {
	t.Parallel()
	proxy := testenv.NewProxy(t, testenv.Postgres(t).Addr())
	x := newTrial(t, newWorld(t), proxy)
	held := x.held()
	port := testenv.Value[int](t, x.pg, "SELECT client_port FROM pg_stat_activity a WHERE datname = current_database() AND "+holdsLock)
	if !proxy.Abandon(port) {
		t.Fatal("the proxy has no such link")
	}
	testenv.Wait(t, patience, "the lock to be taken again", func() bool { return x.held() > held })
	if n := x.bridge.logs.FilterMessage("ends its session before, which still holds the publishing lock").Len(); n == 0 {
		t.Error("the session before ended by itself")
	}
	x.bridge.ready(t)
	for _, r := range x.finish(t) {
		if r.missing != 0 || len(r.gaps) != 1 {
			t.Errorf("%s: %d events missing, gaps %s; want none: nobody else published", r.channel, r.missing, show(r.gaps))
		}
	}
}
