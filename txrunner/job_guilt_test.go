package txrunner_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// patient waits until it may end.
const patient = "INSERT INTO tried VALUES (nextval('runs')); SELECT pg_sleep(CASE WHEN EXISTS (SELECT FROM go) THEN 0 ELSE 600 END)"

const trials = "CREATE SEQUENCE runs; CREATE TABLE tried (n int); CREATE TABLE go ()"

// sleeper waits until a run of patient sleeps in a backend other than the last, and
// returns that.
func (w *world) sleeper(last int) (pid int) {
	w.T.Helper()
	return w.sleeperUnless(last, func() bool { return false })
}

// sleeperUnless returns 0 where it need not be waited for any more.
func (w *world) sleeperUnless(last int, over func() bool) (pid int) {
	w.T.Helper()
	testenv.Wait(w.T, 2*harness.Patience, "the job to be run once more", func() bool {
		pid = harness.Value[int](w.World, fmt.Sprintf(`SELECT coalesce(max(pid), 0) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event = 'PgSleep' AND pid <> %d`, last))
		return pid != 0 || over()
	})
	return pid
}

// skipWithRaceDetector leaves out what takes a minute or two of back-off.
func skipWithRaceDetector(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}

func (w *world) runs() int {
	w.T.Helper()
	return harness.Value[int](w.World, "SELECT last_value::int FROM runs")
}

// A job that takes its process with it, as one does that needs too much memory, is
// given up after six runs: the first delivery of a job is not counted.
func TestJobsThatEndTheirProcessAreGivenUp(t *testing.T) {
	skipWithRaceDetector(t)
	t.Parallel()
	w := newJobWorld(t, map[string]string{"deadly": patient})
	w.SQL(trials)
	w.consumer(500 * time.Millisecond)
	w.submit("deadly", ``, "deadly")
	jobs := txrunner.Jobs{Stream: txrunner.JobStream{Create: true}, Results: txrunner.ResultStream{Create: true}}
	for last := range 6 {
		child := w.spawn(jobs)
		pid := w.sleeper(0)
		child.Kill()
		w.SQL(fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid)) // PostgreSQL has not noticed
		testenv.Wait(t, harness.Patience, "the session to end", func() bool {
			return harness.Value[int](w.World, fmt.Sprintf("SELECT count(*)::int FROM pg_stat_activity WHERE pid = %d", pid)) == 0
		})
		harness.Equal(t, "how often it was run", w.runs(), last+1)
	}
	w.spawn(jobs)
	a := w.result("deadly", "deadly")
	harness.Equal(t, "the code", code(a), "unavailable")
	if !strings.Contains(a.Body, "given up: 5 runs") || a.Error.Retryable {
		t.Errorf("the result does not say why: %s", a.Body)
	}
	harness.Equal(t, "how often it was run in the end", w.runs(), 6)
	w.settled()
}

// However often PostgreSQL goes away under a job, by whatever way, it does not count.
func TestJobsOutliveRestartsOfPostgreSQL(t *testing.T) {
	skipWithRaceDetector(t)
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w := newJobWorld(t, map[string]string{"patient": patient})
	w.Postgres = pg.NewDatabase(t)
	w.Migrate()
	w.SQL(trials)
	w.Serve(withJobs, func(c *txrunner.Config) { c.Jobs.Attempts = 1 })
	id := w.submit("patient", ``, "")
	for i := range 7 {
		w.sleeper(0)
		if i == 0 {
			pg.Kill(t)
		} else {
			pg.Stop(t)
		}
		pg.Start(t)
	}
	w.sleeper(0)
	w.SQL("INSERT INTO go DEFAULT VALUES; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
	a := w.result("patient", id)
	harness.Equal(t, "the job", code(a), "ok")
	harness.Equal(t, "Pgbridge-Attempts", a.Header.Get("Pgbridge-Attempts"), "1")
	harness.Equal(t, "how often it was done", harness.Value[int](w.World, "SELECT count(*)::int FROM tried"), 1)
	w.settled()
}

// A link that is cut is not the job's fault.
func TestJobsOutliveCutsOfTheLink(t *testing.T) {
	skipWithRaceDetector(t)
	t.Parallel()
	w := newJobWorld(t, map[string]string{"patient": patient})
	w.SQL(trials)
	proxy, through := behindProxy(t, w)
	w.Serve(withJobs, through, func(c *txrunner.Config) { c.Jobs.Attempts = 1 })
	id := w.submit("patient", ``, "")
	pid := 0
	for range 5 {
		pid = w.sleeper(pid)
		proxy.Cut()
	}
	pid = w.sleeper(pid)
	w.SQL("INSERT INTO go DEFAULT VALUES")
	w.SQL(fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid))
	a := w.result("patient", id)
	harness.Equal(t, "the job", code(a), "ok")
	harness.Equal(t, "Pgbridge-Attempts", a.Header.Get("Pgbridge-Attempts"), "1")
	harness.Equal(t, "how often it was done", harness.Value[int](w.World, "SELECT count(*)::int FROM tried"), 1)
	w.settled()
}

// lastCrash is when PostgreSQL has forgotten its statistics, empty while it does not
// answer.
func (w *world) lastCrash() (when string) {
	w.T.Helper()
	conn, err := pgx.Connect(w.T.Context(), w.Postgres)
	if err != nil {
		return ""
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(w.T.Context(), "SELECT stats_reset::text FROM pg_stat_bgwriter").Scan(&when); err != nil {
		return ""
	}
	return when
}

// A job that has PostgreSQL itself crash is given up, too.
func TestJobsThatCrashPostgreSQLAreGivenUp(t *testing.T) {
	skipWithRaceDetector(t)
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w := newJobWorld(t, map[string]string{"deadly": patient})
	w.Postgres = pg.NewDatabase(t)
	w.Migrate()
	w.SQL(trials)
	w.Serve(withJobs)
	id := w.submit("deadly", ``, "")
	for range 12 { // one is counted only if PostgreSQL is back soon enough
		before := w.lastCrash()
		pid := w.sleeperUnless(0, func() bool { return w.word("deadly", id) != nil })
		if pid == 0 {
			break
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		testenv.Wait(t, harness.Patience, "PostgreSQL to recover", func() bool {
			now := w.lastCrash()
			return now != "" && now != before
		})
	}
	a := w.result("deadly", id)
	harness.Equal(t, "the code", code(a), "unavailable")
	if !strings.Contains(a.Body, "given up: 5 runs") {
		t.Errorf("the result does not say why: %s", a.Body)
	}
}

// PostgreSQL 17's transaction_timeout ends the session, and is a time limit for all that;
// older ones do not have it.
func TestTransactionTimeout(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"slow": "SELECT set_config('transaction_timeout', '100ms', true); SELECT pg_sleep(600)"})
	w.Serve(withJobs, func(c *txrunner.Config) { c.Jobs.Attempts = 1 })
	want, state := "timeout", "25P04"
	if harness.Value[int](w.World, "SELECT current_setting('server_version_num')::int") < 170000 {
		want, state = "sql_error", "42704"
	}
	harness.Equal(t, "a run's SQLSTATE", w.fails(want, "run.slow", ``).SQLState, state)
	tx := w.begin(``)
	if want == "timeout" {
		harness.Equal(t, "the SQLSTATE in a transaction", w.failsIn("ended", want, tx+".run.slow", ``).SQLState, state)
	}
	a := w.result("slow", w.submit("slow", ``, ""))
	harness.Equal(t, "a job", code(a)+" "+a.Error.SQLState, want+" "+state)
}
