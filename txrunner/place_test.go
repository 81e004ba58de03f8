package txrunner_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// cluster starts a server that tells its name.
func cluster(t *testing.T, name string) *testenv.PG {
	t.Helper()
	return testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"cluster_name": name}})
}

// throughName is a world on the first of two servers, behind an address that can
// be led to the second.
func throughName(t *testing.T) (w *world, first, second *testenv.PG, name *testenv.Proxy) {
	t.Helper()
	first, second = cluster(t, "first"), cluster(t, "second")
	w = newWorld(t, map[string]string{"where": "SELECT current_setting('cluster_name')"})
	name = testenv.NewProxy(t, first.Addr())
	w.Postgres = name.Reroute(t, first.URL())
	return w, first, second, name
}

// Another server takes the place of the first behind the same address: replicas
// that run and new ones serve from it, whether the old one is gone or not.
func TestAnotherServerBehindTheSameAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		move func(*testing.T, *testenv.PG)
	}{
		{"a new cluster on the old port", func(t *testing.T, first *testenv.PG) { first.Stop(t) }},
		{"the old server is still there", func(*testing.T, *testenv.PG) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, first, second, name := throughName(t)
			old := w.Serve()
			harness.Equal(t, "served from", w.rows("run.where", ""), `[["first"]]`)
			name.Lead(second.Addr())
			tt.move(t, first)
			newcomer := harness.Serve(t, w.Config())
			for range 20 {
				harness.Equal(t, "served from", w.rows("run.where", ""), `[["second"]]`)
			}
			testenv.Wait(t, harness.Patience, "both to be ready", func() bool {
				return len(old.Problems()) == 0 && len(newcomer.Problems()) == 0
			})
		})
	}
}

// A newcomer on another server than the others waits, says why, and serves as
// soon as they are where it is.
func TestNewcomerOnAnotherServer(t *testing.T) {
	t.Parallel()
	w, _, second, name := throughName(t)
	w.Serve()
	config := w.Config()
	config.ConnString = second.URL()
	newcomer := harness.Launch(t, config)
	testenv.Wait(t, harness.Patience, "the newcomer to say why it waits", func() bool {
		return strings.Contains(fmt.Sprint(newcomer.Problems()), "other replicas: replica ")
	})
	for range 20 {
		harness.Equal(t, "served from", w.rows("run.where", ""), `[["first"]]`)
	}
	name.Lead(second.Addr())
	testenv.Wait(t, harness.Patience, "the newcomer to serve", func() bool { return len(newcomer.Problems()) == 0 })
	for range 20 {
		harness.Equal(t, "served from", w.rows("run.where", ""), `[["second"]]`)
	}
}

// What began on the old server is not committed there once the address leads
// elsewhere.
func TestTransactionOnTheOldServer(t *testing.T) {
	t.Parallel()
	w, first, second, name := throughName(t)
	testenv.Exec(t, first.URL(), "CREATE TABLE item (id int)")
	w.Write("insert", "INSERT INTO item VALUES (1)")
	w.Serve(func(c *txrunner.Config) { c.ScriptsPoll = 0 })
	tx := w.Works("begin", "").Tx
	w.Works(tx+".run.insert", "")
	name.Lead(second.Addr())
	testenv.Wait(t, harness.Patience, "requests to be served from the second", func() bool {
		return w.rows("run.where", "") == `[["second"]]`
	})
	w.fails("unavailable", tx+".commit", "")
	w.fails("gone", tx+".commit", "")
	harness.Equal(t, "rows on the first", testenv.Value[int](t, first.URL(), "SELECT count(*)::int FROM item"), 0)
}
