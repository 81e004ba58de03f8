package cursors_test

import (
	"fmt"
	"testing"

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
	counter, through := testenv.NewTripCounter(t, w.pg)
	w.serve(func(c *txrunner.Config) { c.ConnString, c.RunConnections, c.PinnedConnections = through, 1, 1 })
	// Looking at the scripts at the start takes a connection of its own.
	testenv.Wait(t, patience, "the check of the scripts to end", func() bool {
		return testenv.Value[int](t, w.pg, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgbridge'") == 1
	})
	count := func(do func()) int64 {
		before := counter.Trips()
		do()
		return counter.Trips() - before
	}
	open := `{"params": {"n": 9000}, "count": 1000}`
	tx := w.works("begin", "").Tx
	w.works(tx+".cursor.numbers", open)
	w.works(tx+".cursor.after", open)
	w.works(tx+".rollback", "")
	tx = w.works("begin", "").Tx
	for _, c := range []struct {
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
	} {
		got := count(func() { w.ask(tx+"."+c.verb, c.body) })
		if got != c.want && c.want >= 0 {
			t.Errorf("%s: %d round trips, want %d", c.what, got, c.want)
		}
	}
	w.works(tx+".rollback", "")
	if got := count(func() { w.works("cursor.numbers", open) }); got > 3 { // a reset, BEGIN, the page
		t.Errorf("a cursor of its own: %s round trips, want at most 3", fmt.Sprint(got))
	}
}
