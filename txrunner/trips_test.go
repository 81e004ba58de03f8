package txrunner_test

import (
	"fmt"
	"testing"

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
	w.sql(accounts + "; DO $$ BEGIN CREATE ROLE clerk; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT ALL ON account TO clerk")
	w.migrate()
	counter, through := testenv.NewTripCounter(t, w.pg)
	w.serve(func(c *txrunner.Config) {
		c.ConnString, c.RunConnections, c.PinnedConnections, c.ScriptsPoll = through, 1, 1, -1
	})
	testenv.Wait(t, patience, "the check of the scripts to end", func() bool {
		return value[int](w, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgbridge'") == 1
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
			if a := w.ask("run."+c.script, c.body, headers...); a.Error != nil {
				t.Fatalf("%s: %+v", c.what, *a.Error)
			}
			return counter.Trips() - before
		}
		ask() // prepares
		least := ask()
		for range 4 { // a probe or a reset may come in between
			least = min(least, ask())
		}
		tidied := c.script == "temp" && least == c.want-1 // before or after the reply
		if least != c.want && !tidied {
			t.Errorf("%s: %d round trips, want %d", c.what, least, c.want)
		}
	}
	tx := w.ask("begin", ``).Tx
	for _, verb := range []struct {
		name, body string
	}{{"run.write", params}, {"run.both", ``}, {"savepoint", `{"name": "s"}`}, {"rollback_to", `{"name": "s"}`}} {
		least := int64(10)
		for range 3 {
			before := counter.Trips()
			if a := w.ask(tx+"."+verb.name, verb.body); a.Error != nil {
				t.Fatalf("%s: %+v", verb.name, *a.Error)
			}
			least = min(least, counter.Trips()-before)
		}
		if least != 1 {
			t.Errorf("%s in a transaction: %d round trips, want 1", verb.name, least)
		}
	}
}
