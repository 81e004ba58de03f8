package bridge_test

import (
	"testing"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// twoServers are a world on the first of two servers, with a name that leads to
// it, and the second, which knows the same login.
func twoServers(t *testing.T) (w *world, name *testenv.Proxy, second *testenv.PG, secondURL string) {
	t.Helper()
	first, second := testenv.DedicatedPostgres(t, testenv.PGOptions{}), testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w = &world{pg: first.URL(), nats: testenv.NATS(t).URL(), prefix: "pgbridge"}
	w.heard = listen(t, w.nats, w.prefix)
	return w, testenv.NewProxy(t, first.Addr()), second, second.URL()
}

func (w *world) through(t *testing.T, name *testenv.Proxy, channels map[string]bridge.Channel) bridge.Config {
	config := w.config(t, channels)
	config.ConnString = name.Reroute(t, w.pg)
	return config
}

// A replica follows the name of its server, though the old one is still there
// and answers.
func TestNameLeadsToAnotherServer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		move func(*testing.T, *world)
	}{
		{"both sessions stay", func(*testing.T, *world) {}},
		{"the control session moves", func(t *testing.T, w *world) {
			testenv.Exec(t, w.pg, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND objsubid = 1")
		}},
		{"the listener moves", func(t *testing.T, w *world) {
			testenv.Exec(t, w.pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgbridge listener %'")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, name, second, url := twoServers(t)
			r := launch(t, w.through(t, name, map[string]bridge.Channel{"orders": {Notify: true}})).ready(t)
			nc := connect(t, w.nats)
			ask(t, nc, "orders", "to the first")
			w.heard.awaitEvent(t, "pgbridge.event.orders", "to the first")
			name.Lead(second.Addr())
			tt.move(t, w)
			testenv.Wait(t, patience, "the listener to be on the second server", func() bool {
				return testenv.Value[bool](t, url, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'pgbridge listener %')")
			})
			w.heard.awaitGap(t, "orders", api.ReasonReconnected)
			r.ready(t)
			testenv.Exec(t, url, "SELECT pg_notify('orders', 'from the second')")
			w.heard.awaitEvent(t, "pgbridge.event.orders", "from the second")
			ask(t, nc, "orders", "to the second")
			w.heard.awaitEvent(t, "pgbridge.event.orders", "to the second")
		})
	}
}

// A newcomer on another server than the others waits, says why, and publishes
// nothing, not even a gap, until they are where it is.
func TestNewcomerOnAnotherServer(t *testing.T) {
	t.Parallel()
	w, name, second, url := twoServers(t)
	channels := map[string]bridge.Channel{"orders": {}}
	old := launch(t, w.through(t, name, channels)).ready(t)
	w.heard.awaitGap(t, "orders", api.ReasonStarted)
	config := w.config(t, channels)
	config.ConnString = url
	newcomer := launch(t, config)
	newcomer.hasProblem(t, "other replicas: replica ")
	testenv.Exec(t, w.pg, "SELECT pg_notify('orders', 'from the first')")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "from the first")
	if n := len(w.heard.gaps(t, "orders")); n != 1 {
		t.Errorf("%d gaps while the newcomer waits, want one", n)
	}
	name.Lead(second.Addr())
	testenv.Wait(t, patience, "both to agree", func() bool {
		return len(old.Problems()) == 0 && len(newcomer.Problems()) == 0
	})
	testenv.Exec(t, url, "SELECT pg_notify('orders', 'from the second')")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "from the second")
}
