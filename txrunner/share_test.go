package txrunner_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// One caller's requests that wait for a script's turn keep no other caller from it.
func TestCallersTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"one": "-- concurrency: 1\nSELECT pg_sleep(@seconds)"})
	r := w.Serve()
	first := w.async("as.alice.run.one", `{"params": {"seconds": 2}}`)
	w.active(1, "pg_sleep")
	answers, err := w.Client.SubscribeSync(w.Client.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // in order, before the other caller's
		if err := w.Client.PublishRequest("pgbridge.as.alice.run.one", answers.Subject, []byte(`{"params": {"seconds": 8}}`)); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Wait(t, harness.Patience, "them to wait", func() bool { return metric(t, r.Runner, "pgbridge_requests_serving") == 4 })
	harness.Equal(t, "another caller's run", code(<-w.async("as.bob.run.one", `{"params": {"seconds": 0}}`)), "ok")
	harness.Equal(t, "the first run", code(<-first), "ok")
	for range 3 {
		if _, err := answers.NextMsg(harness.Patience); err != nil {
			t.Fatal(err)
		}
	}
}

// What one client asks of scripts whose tables are locked keeps nobody else from
// asking.
func TestDescribingIsShared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"locked": "SELECT n FROM locked", "other": "SELECT 1 AS n", "wrong": "SELECT n FROM nothing"})
	w.SQL("CREATE TABLE locked (n int)")
	r := w.Serve(func(c *txrunner.Config) { c.RunConnections = 2 })
	testenv.Wait(t, harness.Patience, "PostgreSQL to have looked at the scripts", func() bool {
		return r.Logs.FilterMessage("a script is faulty").Len() > 0
	})
	lock, err := pgx.Connect(t.Context(), w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close(context.Background()) })
	if _, err := lock.Exec(t.Context(), "BEGIN; LOCK TABLE locked"); err != nil {
		t.Fatal(err)
	}
	var all []<-chan harness.Reply
	for range 3 {
		all = append(all, w.async("describe.locked", ``))
	}
	testenv.Wait(t, harness.Patience, "two of them to wait", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pg_locks WHERE NOT granted AND relation = 'locked'::regclass") == 2
	})
	harness.Equal(t, "the answer about another script", code(<-w.async("describe.other", ``)), "ok")
	if _, err := lock.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	for _, answer := range all {
		<-answer
	}
}

// An error of SQL's with a code that stands for one of pgbridge's own is none: a job
// would wait for memory for ever.
func TestCodesOfSQLAreNotOurs(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{
		"now":  "DO $$ BEGIN RAISE EXCEPTION 'no memory' USING ERRCODE = 'PGB01'; END $$",
		"ever": "DO $$ BEGIN RAISE EXCEPTION 'too large' USING ERRCODE = 'PGB02'; END $$",
	})
	w.Serve(withJobs)
	for _, script := range []string{"now", "ever"} {
		harness.Equal(t, "the code of a run", code(<-w.async("run."+script, ``)), "sql_error")
		harness.Equal(t, "the code of a job", code(w.result(script, w.submit(script, ``, ""))), "sql_error")
	}
}

// A job without an id of its own has one that others can foresee. They take neither its
// name nor its result.
func TestNamesOfJobsAreTheirs(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add, "hold": "SELECT pg_advisory_xact_lock(7), @n::int"})
	w.SQL(accounts)
	r := w.Serve(withJobs)
	w.result("add", w.submit("add", `{"params": {"n": 1}}`, ""))
	created := w.info("PGBRIDGE_JOBS").Created.UnixNano()
	w.submit("add", `{"params": {"n": 100}}`, fmt.Sprintf("%d.3", created))
	harness.Equal(t, "who takes the next job's name", code(w.result("add", fmt.Sprintf("%d.2", created))), "invalid_request")
	harness.Equal(t, "the next job", code(w.result("add", w.submit("add", `{"params": {"n": 1}}`, ""))), "ok")
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "102")

	lock, err := pgx.Connect(t.Context(), w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close(context.Background()) })
	if _, err := lock.Exec(t.Context(), "SELECT pg_advisory_lock(7)"); err != nil {
		t.Fatal(err)
	}
	held := w.submit("hold", `{"params": {"n": 1}}`, "")
	w.active(1, "pg_advisory_xact_lock")
	w.submit("hold", `{"params": {"n": 2}}`, held)
	testenv.Wait(t, harness.Patience, "who takes its name to wait", func() bool { return counted(t, r, "waiting") > 0 })
	if _, err := lock.Exec(t.Context(), "SELECT pg_advisory_unlock(7)"); err != nil {
		t.Fatal(err)
	}
	a := w.result("hold", held)
	harness.Equal(t, "the job under way", string(a.Results[0].Rows), `[["",1]]`)
	w.settled()
}

// Runs that share a round trip are answered each its own.
func TestSharedRoundTripsMixNothingUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"own": "-- read_only: true\nSELECT @n::int, 600 / (@n::int % 400), current_setting('pgbridge.caller', true)"})
	w.Serve(func(c *txrunner.Config) { c.RunConnections = 2 })
	var all sync.WaitGroup
	for i := range 48 {
		all.Go(func() {
			caller := []string{"", "alice", "bob"}[i%3]
			to := "run.own"
			if caller != "" {
				to = "as." + caller + ".run.own"
			}
			for j := range 40 {
				n := 1 + i*40 + j
				a, err := w.Try(to, fmt.Sprintf(`{"params": {"n": %d}}`, n))
				switch {
				case err != nil:
					t.Error(err)
				case n%400 == 0 && code(a) != "sql_error":
					t.Errorf("%d is answered %.300s, want a division by zero", n, a.Body)
				case n%400 != 0 && (code(a) != "ok" || a.LastRows() != fmt.Sprintf(`[[%d,%d,%q]]`, n, 600/(n%400), caller)):
					t.Errorf("%d for %q is answered %.300s", n, caller, a.Body)
				}
			}
		})
	}
	all.Wait()
	w.WantIdle()
}
