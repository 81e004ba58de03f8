package txrunner_test

import (
	"errors"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// behindProxy is a world whose PostgreSQL is reached through a proxy.
func behindProxy(t *testing.T, w *world) (*testenv.Proxy, func(*txrunner.Config)) {
	t.Helper()
	u, err := url.Parse(w.pg)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.NewProxy(t, u.Host)
	return proxy, func(c *txrunner.Config) { c.ConnString = proxy.Reroute(t, w.pg) }
}

// active waits until so many statements with a text are running.
func (w *world) active(n int, text string) {
	w.t.Helper()
	testenv.Wait(w.t, patience, text+" to run", func() bool {
		return value[int](w, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database()
			AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%' || $1 || '%'`, text) == n
	})
}

// async asks and gives the answer when it comes.
func (w *world) async(subject, body string, headers ...string) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		a, err := w.try(subject, body, headers...)
		if err != nil {
			w.t.Error(err)
		}
		answers <- a
	}()
	return answers
}

func code(a answer) string {
	if a.Error == nil {
		return "ok"
	}
	return a.Error.Code
}

var faultScripts = map[string]string{
	"slow":   "UPDATE account SET balance = balance + 1 WHERE id = 1 RETURNING balance; SELECT pg_sleep(@seconds)",
	"commit": "INSERT INTO slow_commit VALUES (@id)",
	"lock":   "UPDATE account SET balance = balance WHERE id = 1",
	"look":   "-- read_only: true\nSELECT pg_sleep(@seconds)",
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
	w.pg = pg.NewDatabase(t)
	w.sql(accounts)
	r := w.serve()
	running := w.async("run.slow", `{"params": {"seconds": 60}}`)
	w.active(1, "pg_sleep")
	pg.Stop(t)
	a := <-running
	equal(t, "gone during the script", code(a), "unavailable")
	if !a.Error.Retryable {
		t.Error("not retryable, though nothing was done")
	}
	w.fails("unavailable", "run.slow", `{"params": {"seconds": 0}}`)
	w.fails("unavailable", "begin", ``)
	testenv.Wait(t, patience, "the problem to be told", func() bool {
		return slices.ContainsFunc(r.Problems(), func(p string) bool { return len(p) > 0 })
	})
	pg.Start(t)
	testenv.Wait(t, patience, "it to work again", func() bool { return code(w.ask("run.slow", `{"params": {"seconds": 0}}`)) == "ok" })
	testenv.Wait(t, patience, "the problem to be over", func() bool { return len(r.Problems()) == 0 })
	equal(t, "the balance", value[string](w, "SELECT balance::text FROM account WHERE id = 1"), "101")
}

func TestLinkLostBeforeCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScripts)
	w.sql(accounts)
	proxy, through := behindProxy(t, w)
	w.serve(through)
	running := w.async("run.slow", `{"params": {"seconds": 2}}`)
	w.active(1, "pg_sleep")
	proxy.Cut()
	equal(t, "cut before COMMIT was sent", code(<-running), "unavailable")
	w.active(0, "pg_sleep") // it did not know for a while
	running = w.async("run.look", `{"params": {"seconds": 2}}`)
	w.active(1, "pg_sleep")
	proxy.Cut()
	equal(t, "cut while reading only", code(<-running), "unavailable")
	equal(t, "the balance", value[string](w, "SELECT balance::text FROM account WHERE id = 1"), "100")
}

func TestLinkLostAtCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScripts)
	w.sql(accounts + ";" + slowCommit)
	w.migrate()
	proxy, through := behindProxy(t, w)
	w.serve(through)
	lock := w.serveLock(t)
	lock.take()
	running := w.async("run.commit", `{"params": {"id": 1}}`)
	w.atLock()
	proxy.Cut()
	a := <-running
	equal(t, "cut during COMMIT", code(a), "unknown")
	equal(t, "retryable", a.Error.Retryable, false)
	lock.leave()

	lock.take()
	tx := w.begin(``)
	w.state("active", tx+".run.commit", `{"params": {"id": 2}}`)
	running = w.async(tx+".commit", ``)
	w.atLock()
	proxy.Cut()
	equal(t, "cut during a pinned COMMIT", code(<-running), "unknown")
	lock.leave()

	lock.take() // and now it does commit: the cancel request does not get through
	running = w.async("run.commit", `{"timeout_ms": 1000, "params": {"id": 3}}`, "Nats-Msg-Id", "settled")
	w.atLock()
	proxy.Freeze()
	a = <-running
	equal(t, "frozen during COMMIT", code(a), "unknown")
	equal(t, "retryable with a message id", a.Error.Retryable, true)
	lock.leave()
	testenv.Wait(t, patience, "the commit", func() bool { return value[int](w, "SELECT count(*)::int FROM slow_commit WHERE id = 3") == 1 })
	proxy.Thaw()
	a = w.ask("run.commit", `{"timeout_ms": 1000, "params": {"id": 3}}`, "Nats-Msg-Id", "settled")
	equal(t, "the message id settles it", a.header.Get("Pgbridge-Replayed")+" "+code(a), "true ok")
	equal(t, "rows", value[int](w, "SELECT count(*)::int FROM slow_commit WHERE id = 3"), 1)
}

func TestRollbackOverAFrozenLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScripts)
	w.sql(slowCommit)
	proxy, through := behindProxy(t, w)
	w.serve(through)
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
	equal(t, "commit", code(<-commit), "unknown")
}

// atLock waits until somebody waits for the lock.
func (w *world) atLock() {
	w.t.Helper()
	testenv.Wait(w.t, patience, "COMMIT to wait", func() bool {
		return value[int](w, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'") == 1
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
	conn := connect(t, w.pg)
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
	w.sql(accounts)
	proxy, through := behindProxy(t, w)
	w.serve(through)
	w.ask("run.look", `{"params": {"seconds": 0}}`)
	proxy.Freeze()
	a := w.ask("run.slow", `{"timeout_ms": 500, "params": {"seconds": 0}}`)
	if c := code(a); c == "ok" {
		t.Errorf("answered %s over a frozen link", a.body)
	}
	proxy.Thaw()
	testenv.Wait(t, patience, "it to work again", func() bool { return code(w.ask("run.look", `{"params": {"seconds": 0}}`)) == "ok" })
}

// Whatever becomes of the process or its host, what a pinned transaction has
// locked is free again.
func TestNobodyKeepsTheLocksOfADeadReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScripts)
	w.sql(accounts)
	w.migrate()
	locked := func() bool {
		return value[int](w, "SELECT count(*)::int FROM (SELECT FROM account WHERE id = 1 FOR UPDATE SKIP LOCKED) free") == 0
	}
	c := w.spawn(txrunner.Jobs{}, filepath.Join(t.TempDir(), "log"))
	var tx string
	testenv.Wait(t, patience, "a transaction", func() bool {
		a, err := w.try("begin", ``)
		tx = a.Tx
		return err == nil && a.Error == nil
	})
	w.state("active", tx+".run.lock", ``)
	c.kill()
	testenv.Wait(t, patience, "no responders", func() bool { // as soon as NATS has noticed
		_, err := w.client.Request(tx+".run.lock", nil, time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	})
	testenv.Wait(t, patience, "the dead process's lock to go", func() bool { return !locked() })

	proxy, through := behindProxy(t, w)
	w.serve(through)
	tx = w.begin(`{"idle_timeout_ms": 500}`)
	w.state("active", tx+".run.lock", ``)
	proxy.Freeze() // its host is gone, as far as PostgreSQL can see
	equal(t, "locked", locked(), true)
	testenv.Wait(t, patience, "the unreachable host's lock to go", func() bool { return !locked() })
	proxy.Thaw()
}

func TestStartsWithoutPostgreSQL(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w := newWorld(t, faultScripts)
	w.pg = pg.NewDatabase(t)
	w.sql(accounts)
	pg.Stop(t)
	r := launch(t, w.config())
	testenv.Wait(t, patience, "the problem to be told", func() bool { return len(r.Problems()) > 0 })
	pg.Start(t)
	testenv.Wait(t, patience, "the runner to be ready", func() bool { return len(r.Problems()) == 0 })
	equal(t, "a run", code(w.ask("run.look", `{"params": {"seconds": 0}}`)), "ok")
}
