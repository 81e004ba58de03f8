package txrunner_test

import (
	"errors"
	"net/url"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// behindProxy is a world whose PostgreSQL is reached through a proxy.
func behindProxy(t *testing.T, w *world) (*testenv.Proxy, func(*txrunner.Config)) {
	t.Helper()
	u, err := url.Parse(w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.NewProxy(t, u.Host)
	return proxy, func(c *txrunner.Config) { c.ConnString = proxy.Reroute(t, w.Postgres) }
}

// active waits until so many statements with a text are running.
func (w *world) active(n int, text string) {
	w.T.Helper()
	testenv.Wait(w.T, harness.Patience, text+" to run", func() bool {
		return harness.Value[int](w.World, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database()
			AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%' || $1 || '%'`, text) == n
	})
}

// async asks and gives the harness.Reply when it comes.
func (w *world) async(subject, body string, headers ...string) <-chan harness.Reply {
	answers := make(chan harness.Reply, 1)
	go func() {
		a, err := w.Try(subject, body, headers...)
		if err != nil {
			w.T.Error(err)
		}
		answers <- a
	}()
	return answers
}

func code(a harness.Reply) string {
	if a.Error == nil {
		return "ok"
	}
	return a.Error.Code
}

var faultScripts = map[string]string{
	"slow":   "UPDATE account SET balance = balance + 1 WHERE id = 1 RETURNING balance; SELECT pg_sleep(@seconds)",
	"commit": "INSERT INTO slow_commit VALUES (@id)",
	// PostgreSQL's own limit, which is for when this process cannot keep its, could come first.
	"unlimited": "SET LOCAL statement_timeout = 0; INSERT INTO slow_commit VALUES (@id)",
	"lock":      "UPDATE account SET balance = balance WHERE id = 1",
	"look":      "-- read_only: true\nSELECT pg_sleep(@seconds)",
}

// A deferred trigger keeps COMMIT busy for as long as somebody holds a lock.
const slowCommit = `CREATE TABLE slow_commit (id int);
	CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER wait_at_commit AFTER INSERT ON slow_commit DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION wait_at_commit();`

func TestPostgreSQLGone(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w := newWorld(t, faultScripts)
	w.Postgres = pg.NewDatabase(t)
	w.SQL(accounts)
	r := w.Serve()
	running := w.async("run.slow", `{"params": {"seconds": 60}}`)
	w.active(1, "pg_sleep")
	pg.Stop(t)
	a := <-running
	harness.Equal(t, "gone during the script", code(a), "unavailable")
	if !a.Error.Retryable {
		t.Error("not retryable, though nothing was done")
	}
	w.fails("unavailable", "run.slow", `{"params": {"seconds": 0}}`)
	w.fails("unavailable", "begin", ``)
	testenv.Wait(t, harness.Patience, "the problem to be told", func() bool {
		return slices.ContainsFunc(r.Problems(), func(p string) bool { return len(p) > 0 })
	})
	pg.Start(t)
	testenv.Wait(t, harness.Patience, "it to work again", func() bool { return code(w.Ask("run.slow", `{"params": {"seconds": 0}}`)) == "ok" })
	testenv.Wait(t, harness.Patience, "the problem to be over", func() bool { return len(r.Problems()) == 0 })
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "101")
}

func TestLinkLostBeforeCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScripts)
	w.SQL(accounts)
	proxy, through := behindProxy(t, w)
	w.Serve(through)
	running := w.async("run.slow", `{"params": {"seconds": 2}}`)
	w.active(1, "pg_sleep")
	proxy.Cut()
	harness.Equal(t, "cut before COMMIT was sent", code(<-running), "unavailable")
	w.active(0, "pg_sleep") // it did not know for a while
	running = w.async("run.look", `{"params": {"seconds": 2}}`)
	w.active(1, "pg_sleep")
	proxy.Cut()
	harness.Equal(t, "cut while reading only", code(<-running), "unavailable")
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "100")
}

func TestLinkLostAtCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScripts)
	w.SQL(accounts + ";" + slowCommit)
	w.Migrate()
	proxy, through := behindProxy(t, w)
	w.Serve(through)
	lock := w.serveLock(t)
	lock.take()
	running := w.async("run.commit", `{"params": {"id": 1}}`)
	w.atLock()
	proxy.Cut()
	a := <-running
	harness.Equal(t, "cut during COMMIT", code(a), "unknown")
	harness.Equal(t, "retryable", a.Error.Retryable, false)
	lock.leave()

	lock.take()
	tx := w.begin(``)
	w.state("active", tx+".run.commit", `{"params": {"id": 2}}`)
	running = w.async(tx+".commit", ``)
	w.atLock()
	proxy.Cut()
	harness.Equal(t, "cut during a pinned COMMIT", code(<-running), "unknown")
	lock.leave()

	lock.take() // and now it does commit: the cancel request does not get through
	running = w.async("run.unlimited", `{"timeout_ms": 5000, "params": {"id": 3}}`, "Nats-Msg-Id", "settled")
	w.atLock()
	proxy.Freeze()
	a = <-running
	harness.Equal(t, "frozen during COMMIT", code(a), "unknown")
	harness.Equal(t, "retryable with a message id", a.Error.Retryable, true)
	lock.leave()
	testenv.Wait(t, harness.Patience, "the commit", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM slow_commit WHERE id = 3") == 1
	})
	proxy.Thaw()
	a = w.Ask("run.unlimited", `{"timeout_ms": 5000, "params": {"id": 3}}`, "Nats-Msg-Id", "settled")
	harness.Equal(t, "the message id settles it", a.Header.Get("Pgbridge-Replayed")+" "+code(a), "true ok")
	harness.Equal(t, "rows", harness.Value[int](w.World, "SELECT count(*)::int FROM slow_commit WHERE id = 3"), 1)
}

func TestRollbackOverAFrozenLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScripts)
	w.SQL(slowCommit)
	proxy, through := behindProxy(t, w)
	w.Serve(through)
	lock := w.serveLock(t)
	lock.take()
	defer lock.leave()
	tx := w.begin(``)
	w.state("active", tx+".run.commit", `{"params": {"id": 1}}`)
	commit := w.async(tx+".commit", ``)
	w.atLock()
	proxy.Freeze()
	defer proxy.Thaw()
	w.failsIn("ended", "gone", tx+".rollback", ``) // who knows
	harness.Equal(t, "commit", code(<-commit), "unknown")
}

// atLock waits until somebody waits for the lock.
func (w *world) atLock() {
	w.T.Helper()
	testenv.Wait(w.T, harness.Patience, "COMMIT to wait", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'") == 1
	})
}

// advisory holds the lock that wait_at_commit waits for.
type advisory struct {
	w    *world
	tell chan string
	done chan struct{}
}

func (w *world) serveLock(t *testing.T) *advisory {
	t.Helper()
	a := &advisory{w: w, tell: make(chan string), done: make(chan struct{})}
	conn := connect(t, w.Postgres)
	go func() {
		for sql := range a.tell {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Error(err)
			}
			a.done <- struct{}{}
		}
	}()
	t.Cleanup(func() { close(a.tell) })
	return a
}

func (a *advisory) take()  { a.tell <- "SELECT pg_advisory_lock(7)"; <-a.done }
func (a *advisory) leave() { a.tell <- "SELECT pg_advisory_unlock(7)"; <-a.done }

func TestFrozenLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScripts)
	w.SQL(accounts)
	proxy, through := behindProxy(t, w)
	w.Serve(through)
	w.Ask("run.look", `{"params": {"seconds": 0}}`)
	proxy.Freeze()
	a := w.Ask("run.slow", `{"timeout_ms": 500, "params": {"seconds": 0}}`)
	if c := code(a); c == "ok" {
		t.Errorf("answered %s over a frozen link", a.Body)
	}
	proxy.Thaw()
	testenv.Wait(t, harness.Patience, "it to work again", func() bool { return code(w.Ask("run.look", `{"params": {"seconds": 0}}`)) == "ok" })
}

// Whatever becomes of the process or its host, what a pinned transaction has
// locked is free again.
func TestNobodyKeepsTheLocksOfADeadReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScripts)
	w.SQL(accounts)
	w.Migrate()
	locked := func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM (SELECT FROM account WHERE id = 1 FOR UPDATE SKIP LOCKED) free") == 0
	}
	c := w.spawn(txrunner.Jobs{})
	var tx string
	testenv.Wait(t, harness.Patience, "a transaction", func() bool {
		a, err := w.Try("begin", ``)
		tx = a.Tx
		return err == nil && a.Error == nil
	})
	w.state("active", tx+".run.lock", ``)
	c.Kill()
	testenv.Wait(t, harness.Patience, "no responders", func() bool { // as soon as NATS has noticed
		_, err := w.Client.Request(tx+".run.lock", nil, time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	})
	testenv.Wait(t, harness.Patience, "the dead process's lock to go", func() bool { return !locked() })

	proxy, through := behindProxy(t, w)
	w.Serve(through)
	tx = w.begin(`{"idle_timeout_ms": 2500}`)
	w.state("active", tx+".run.lock", ``)
	proxy.Freeze() // its host is gone, as far as PostgreSQL can see
	harness.Equal(t, "locked", locked(), true)
	testenv.Wait(t, harness.Patience, "the unreachable host's lock to go", func() bool { return !locked() })
	proxy.Thaw()
}

func TestStartsWithoutPostgreSQL(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w := newWorld(t, faultScripts)
	w.Postgres = pg.NewDatabase(t)
	w.SQL(accounts)
	pg.Stop(t)
	r := harness.Launch(t, w.Config())
	testenv.Wait(t, harness.Patience, "the problem to be told", func() bool { return len(r.Problems()) > 0 })
	pg.Start(t)
	testenv.Wait(t, harness.Patience, "the runner to be ready", func() bool { return len(r.Problems()) == 0 })
	harness.Equal(t, "a run", code(w.Ask("run.look", `{"params": {"seconds": 0}}`)), "ok")
}

// When a backend crashes PostgreSQL ends all others, some of them in the middle of
// COMMIT.
func TestCrashAtCommit(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"restart_after_crash": "on"}})
	w := newWorld(t, faultScripts)
	w.Postgres = pg.NewDatabase(t)
	w.SQL(accounts + ";" + slowCommit)
	w.Serve()
	for _, in := range []string{"", "pinned"} {
		conn, err := pgx.Connect(t.Context(), w.Postgres)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(7)"); err != nil {
			t.Fatal(err)
		}
		var running <-chan harness.Reply
		if in == "" {
			running = w.async("run.commit", `{"params": {"id": 1}}`)
		} else {
			tx := w.begin(``)
			w.state("active", tx+".run.commit", `{"params": {"id": 2}}`)
			running = w.async(tx+".commit", ``)
		}
		w.atLock()
		victim, err := os.FindProcess(int(conn.PgConn().PID()))
		if err == nil {
			err = victim.Kill()
		}
		if err != nil {
			t.Fatal(err)
		}
		a := <-running
		harness.Equal(t, "crashed during COMMIT "+in, code(a), "unknown")
		_ = conn.Close(t.Context())
		testenv.Wait(t, harness.Patience, "PostgreSQL to be there again", func() bool { return code(w.Ask("run.lock", ``)) == "ok" })
	}
}
