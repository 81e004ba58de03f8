package cursors_test

import (
	"fmt"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"numbers": "SELECT g AS n, 'row ' || g AS name FROM generate_series(1, @n::int) g;",
		"after":   "CREATE TEMP TABLE scratch ON COMMIT DROP AS SELECT 1; SELECT g FROM generate_series(1, @n::int) g;",
		"work":    "SELECT 1;",
	})
	counter, through := testenv.NewTripCounter(t, w.Postgres)
	w.serve(func(c *txrunner.Config) {
		c.ConnString, c.RunConnections, c.PinnedConnections, c.Share = through, 1, 1, 1
	})
	// Looking at the scripts at the start takes a connection of its own.
	testenv.Wait(t, harness.Patience, "the check of the scripts to end", func() bool {
		return testenv.Value[int](t, w.Postgres, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgbridge'") == 1
	})
	count := func(do func()) int64 {
		before := counter.Trips()
		do()
		return counter.Trips() - before
	}
	open := `{"params": {"n": 9000}, "count": 1000}`
	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.numbers", open)
	w.Works(tx+".cursor.after", open)
	w.Works(tx+".rollback", "")
	steps := []struct {
		what, verb, body string
		want             int64
	}{
		{"DECLARE and the first page", "cursor.numbers", open, 1},
		{"with scroll", "cursor.numbers", `{"params": {"n": 9000}, "scroll": true, "name": "s"}`, 1},
		{"behind another statement", "cursor.after", open, 1},
		{"after which its cursors are looked for", "fetch", `{"cursor": "c1"}`, 2},
		{"the next page", "fetch", `{"cursor": "c1"}`, 1},
		{"a page that is cut", "fetch", `{"cursor": "s", "max_bytes": 5000}`, 1},
		{"back from there", "fetch", `{"cursor": "s", "direction": "backward", "count": 10}`, 1},
		{"a row far away", "fetch", `{"cursor": "s", "direction": "absolute", "count": 5000}`, 1},
		{"the last row", "fetch", `{"cursor": "s", "direction": "last"}`, 2},
		{"a move", "move", `{"cursor": "s", "direction": "backward", "count": 100}`, 1},
		{"what PostgreSQL would refuse", "fetch", `{"cursor": "c1", "direction": "prior"}`, 0},
		{"a cursor that is not there", "fetch", `{"cursor": "nobody"}`, 0},
		{"close", "close", `{"cursor": "s"}`, 1},
		{"a script", "run.work", ``, -1},
		{"after a script its cursors are looked for", "fetch", `{"cursor": "c1"}`, 2},
	}
	// Probes and resets come in between, on a busy machine more often than not.
	wrong := []string{""}
	for tries := 0; len(wrong) > 0 && tries < 20; tries++ {
		wrong = nil
		tx = w.Works("begin", "").Tx
		for _, c := range steps {
			got := count(func() { w.Ask(tx+"."+c.verb, c.body) })
			if got != c.want && c.want >= 0 {
				wrong = append(wrong, fmt.Sprintf("%s: %d round trips, want %d", c.what, got, c.want))
			}
		}
		w.Works(tx+".rollback", "")
	}
	for _, what := range wrong {
		t.Error(what)
	}
	least := int64(100)
	for tries := 0; least > 5 && tries < 20; tries++ {
		least = min(least, count(func() { w.Works("cursor.numbers", open) }))
	}
	if least > 5 { // a reset has three, then BEGIN, the page
		t.Errorf("a cursor of its own: %s round trips, want at most 5", fmt.Sprint(least))
	}
}
