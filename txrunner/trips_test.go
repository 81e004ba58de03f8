package txrunner_test

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
		"write":   "UPDATE account SET balance = balance - @n WHERE id = 1; UPDATE account SET balance = balance + @n WHERE id = 2",
		"modes":   "-- isolation: serializable\n-- role: clerk\n-- timeout: 2s\nUPDATE account SET balance = balance",
		"read":    "-- read_only: true\nSELECT * FROM account; SELECT 1",
		"both":    "UPDATE account SET balance = balance; SELECT * FROM account; SELECT 1",
		"temp":    "CREATE TEMP TABLE scratch (id int) ON COMMIT DROP; INSERT INTO scratch VALUES (@n); SELECT * FROM scratch",
		"nothing": "SAVEPOINT a; RELEASE a",
	})
	w.SQL(accounts + "; DO $$ BEGIN CREATE ROLE clerk; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; GRANT ALL ON account TO clerk")
	w.Migrate()
	counter, through := testenv.NewTripCounter(t, w.Postgres)
	w.Serve(func(c *txrunner.Config) {
		c.ConnString, c.RunConnections, c.PinnedConnections, c.Share, c.ScriptsPoll = through, 1, 1, 1, -1
	})
	testenv.Wait(t, harness.Patience, "the check of the scripts to end", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgbridge'") == 1
	})
	params := `{"params": {"n": 1}}`
	for _, c := range []struct {
		what, script, body string
		want               int64
		headers            []string
	}{
		{"writes, no rows", "write", params, 1, nil},
		{"modes, role and timeout", "modes", ``, 1, nil},
		{"read only", "read", ``, 1, nil},
		{"writes and rows", "both", ``, 2, nil},
		{"no result at all", "nothing", ``, 1, nil},
		{"with a message id", "write", params, 2, []string{"Nats-Msg-Id"}},
		{"statements parsed on the way, and tidied up", "temp", params, 3, nil},
	} {
		id := 0
		ask := func() int64 {
			headers := c.headers
			if headers != nil {
				id++
				headers = append(headers, fmt.Sprint(id))
			}
			before := counter.Trips()
			if a := w.Ask("run."+c.script, c.body, headers...); a.Error != nil {
				t.Fatalf("%s: %+v", c.what, *a.Error)
			}
			return counter.Trips() - before
		}
		ask() // prepares
		least := leastTrips(c.want, ask)
		tidied := c.script == "temp" && least == c.want-1 // before or after the reply
		if least != c.want && !tidied {
			t.Errorf("%s: %d round trips, want %d", c.what, least, c.want)
		}
	}
	tx := w.Ask("begin", ``).Tx
	for _, verb := range []struct {
		name, body string
	}{{"run.write", params}, {"run.both", ``}, {"savepoint", `{"name": "s"}`}, {"rollback_to", `{"name": "s"}`}} {
		least := leastTrips(1, func() int64 {
			before := counter.Trips()
			if a := w.Ask(tx+"."+verb.name, verb.body); a.Error != nil {
				t.Fatalf("%s: %+v", verb.name, *a.Error)
			}
			return counter.Trips() - before
		})
		if least != 1 {
			t.Errorf("%s in a transaction: %d round trips, want 1", verb.name, least)
		}
	}
}

// leastTrips asks until one request took no more round trips than it should:
// probes and resets come in between, on a busy machine every time for a while.
func leastTrips(want int64, ask func() int64) int64 {
	least := ask()
	for range 200 {
		if least <= want {
			break
		}
		least = min(least, ask())
	}
	return least
}
