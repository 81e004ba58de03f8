package txrunner_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

var pinnedScripts = map[string]string{
	"add":     "UPDATE account SET balance = balance + @n WHERE id = @id",
	"balance": "SELECT balance FROM account WHERE id = @id",
	"sleep":   "SELECT pg_sleep(@seconds)",
	"fail":    "SELECT 1 / @zero::int",
	"wide":    "SELECT repeat('x', 2000000)",
	"strict":  "-- isolation: serializable\nSELECT 1",
	"reader":  "-- read_only: true\nSELECT 1",
	"whoami":  "SELECT current_user, current_setting('pgbridge.caller'), current_setting('statement_timeout')",
	"limited": "-- role: pinclerk\n-- timeout: 3s\nSELECT current_user, current_setting('statement_timeout')::interval < '10s'",
}

func newPinnedWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld(t, pinnedScripts)
	w.SQL(accounts + `; DO $$ BEGIN CREATE ROLE pinclerk; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`)
	return w
}

// state asks and wants an harness.Reply without an error and with this state.
func (w *world) state(state, subject, body string) harness.Reply {
	w.T.Helper()
	a := w.Ask(subject, body)
	if a.Error != nil {
		w.T.Fatalf("%s: %+v", subject, *a.Error)
	}
	if got := a.Header.Get("Pgbridge-Transaction"); got != state {
		w.T.Fatalf("%s: Pgbridge-Transaction = %q, want %q", subject, got, state)
	}
	return a
}

// failsIn asks and wants an error and this state.
func (w *world) failsIn(state, code, subject, body string) harness.Failure {
	w.T.Helper()
	a := w.Ask(subject, body)
	if a.Error == nil || a.Error.Code != code || a.Header.Get("Pgbridge-Transaction") != state {
		w.T.Fatalf("%s answered %s in the state %q, want %s and %q", subject, a.Body, a.Header.Get("Pgbridge-Transaction"), code, state)
	}
	return *a.Error
}

func (w *world) begin(body string) string {
	w.T.Helper()
	return w.state("active", "begin", body).Tx
}

func TestPinnedTransaction(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Serve()
	begun := w.state("active", "begin", `{"isolation": "repeatable read", "idle_timeout_ms": 90000}`)
	tx := begun.Tx
	harness.Equal(t, "idle_timeout_ms, capped", begun.Idle, 30000)
	if left := time.Until(begun.ExpiresAt); left < 25*time.Second || left > 31*time.Second {
		t.Errorf("expires in %s, want 30s", left)
	}
	w.state("active", tx+".run.add", `{"params": {"id": 1, "n": 5}}`)
	harness.Equal(t, "outside", w.rows("run.balance", `{"params": {"id": 1}}`), "[[100]]")
	harness.Equal(t, "inside", string(w.state("active", tx+".run.balance", `{"params": {"id": 1}}`).Results[0].Rows), "[[105]]")
	w.state("active", tx+".savepoint", `{"name": "a \"quoted\"; one"}`)
	w.failsIn("failed", "sql_error", tx+".run.fail", `{"params": {"zero": 0}}`)
	for _, verb := range []string{"run.add", "savepoint", "release"} {
		body := `{"name": "x"}`
		if verb == "run.add" {
			body = `{"params": {"id": 1, "n": 1}}`
		}
		e := w.failsIn("failed", "sql_error", tx+"."+verb, body)
		harness.Equal(t, "sqlstate of "+verb, e.SQLState, "25P02")
	}
	w.state("failed", tx+".touch", ``)
	w.state("active", tx+".rollback_to", `{"name": "a \"quoted\"; one"}`)
	w.state("active", tx+".run.add", `{"params": {"id": 2, "n": 7}}`)
	w.state("active", tx+".release", `{"name": "a \"quoted\"; one"}`)
	harness.Equal(t, "commit", w.state("ended", tx+".commit", ``).Body, "{}")
	harness.Equal(t, "balances", harness.Value[string](w.World, "SELECT string_agg(balance::text, ' ' ORDER BY id) FROM account"), "105 107")
	e := w.failsIn("ended", "gone", tx+".run.balance", `{"params": {"id": 1}}`)
	if !strings.Contains(e.Message, "committed") {
		t.Errorf("message %q does not say why", e.Message)
	}
	w.failsIn("ended", "gone", tx+".touch", ``)
	w.failsIn("ended", "gone", tx+".rollback", ``)
	w.failsIn("ended", "gone", tx[:strings.LastIndex(tx, ".")]+".nobody.touch", ``)
}

// A client cannot fill the memory with savepoints, here and in PostgreSQL.
func TestSavepointsAreBounded(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Serve()
	tx := w.begin(``)
	w.state("active", tx+".savepoint", `{"name": "outer"}`)
	for range 1023 {
		w.state("active", tx+".savepoint", `{"name": "s"}`)
	}
	w.failsIn("active", "invalid_request", tx+".savepoint", `{"name": "s"}`)
	w.state("active", tx+".release", `{"name": "s"}`)
	w.state("active", tx+".savepoint", `{"name": "s"}`)
	w.failsIn("active", "invalid_request", tx+".savepoint", `{"name": "s"}`)
	w.state("active", tx+".rollback_to", `{"name": "outer"}`)
	w.state("active", tx+".savepoint", `{"name": "s"}`)
	w.state("ended", tx+".commit", ``)
}

func TestPinnedFailures(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Serve()
	tx := w.begin(``)
	w.failsIn("active", "not_found", tx+".run.nothing", ``)
	w.failsIn("active", "not_found", tx+".explode", ``)
	w.failsIn("active", "denied", tx+".run", `{"sql": "SELECT 1"}`)
	w.failsIn("active", "invalid_request", tx+".run.add", `{"params": {"id": 1}}`)
	w.failsIn("active", "invalid_request", tx+".run.strict", ``)
	w.failsIn("active", "invalid_request", tx+".run.reader", ``)
	w.failsIn("active", "invalid_request", tx+".savepoint", ``)
	w.failsIn("active", "invalid_request", tx+".commit", `{"now": true}`)
	if e := w.fails("invalid_request", tx+".run.balance", `{"params": {"id": 1}}`, "Nats-Msg-Id", "x"); !strings.Contains(e.Message, "message id") {
		t.Errorf("message %q", e.Message)
	}
	w.state("active", tx+".run.add", `{"params": {"id": 1, "n": 5}}`)
	e := w.failsIn("failed", "timeout", tx+".run.sleep", `{"timeout_ms": 1000, "params": {"seconds": 60}}`)
	harness.Equal(t, "retryable", e.Retryable, false)
	e = w.failsIn("ended", "sql_error", tx+".commit", ``)
	harness.Equal(t, "commit of a failed transaction", e.SQLState, "25P02")

	tx = w.begin(``)
	w.state("active", tx+".run.add", `{"params": {"id": 1, "n": 5}}`)
	w.failsIn("ended", "too_large", tx+".run.wide", ``)
	if e := w.failsIn("ended", "gone", tx+".commit", ``); !strings.Contains(e.Message, "fit") {
		t.Errorf("message %q does not say why", e.Message)
	}
	tx = w.begin(``)
	w.failsIn("failed", "sql_error", tx+".rollback_to", `{"name": "nothing"}`)
	w.state("ended", tx+".rollback", ``)
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "100")

	w.fails("invalid_request", "begin", `{"isolation": "total"}`)
	w.fails("invalid_request", "begin", `{"read_only": 1}`)
	w.fails("invalid_request", "begin", `{"idle_timeout_ms": -1}`)
	w.fails("invalid_request", "begin", `{"name": "x"}`)
	tx = w.begin(`{"read_only": true, "isolation": "serializable", "deferrable": true}`)
	w.state("active", tx+".run.strict", ``)
	w.state("active", tx+".run.reader", ``)
	e = w.failsIn("failed", "sql_error", tx+".run.add", `{"params": {"id": 1, "n": 5}}`)
	harness.Equal(t, "writing in a read-only transaction", e.SQLState, "25006")
}

// A statement whose types are not known before the script runs can turn out to
// have a wrong parameter when those before it are done.
func TestPinnedScriptIsNotDoneByHalf(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Write("half", "UPDATE account SET balance = 0; SELECT @n::int")
	w.Serve()
	tx := w.begin(``)
	w.state("active", tx+".savepoint", `{"name": "before"}`)
	w.failsIn("failed", "invalid_request", tx+".run.half", `{"params": {"n": [1]}}`)
	w.failsIn("failed", "sql_error", tx+".run.half", `{"params": {"n": 1}}`)
	w.state("active", tx+".rollback_to", `{"name": "before"}`)
	w.failsIn("failed", "invalid_request", tx+".run.half", `{"params": {"n": [1]}}`) // the types may be others by now
	w.state("active", tx+".rollback_to", `{"name": "before"}`)
	w.state("ended", tx+".commit", ``)
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "100")
}

func TestPinnedRoleAndTimeoutHoldForTheScriptAlone(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Serve()
	tx := w.state("active", "as.alice.begin", ``).Tx
	user := string(w.state("active", tx+".run.whoami", ``).Results[0].Rows)
	if !strings.Contains(user, `"alice"`) {
		t.Errorf("whoami = %s, want the caller alice", user)
	}
	w.state("active", tx+".savepoint", `{"name": "s"}`)
	harness.Equal(t, "limited", string(w.state("active", tx+".run.limited", ``).Results[0].Rows), `[["pinclerk",true]]`)
	after := string(w.state("active", tx+".run.whoami", ``).Results[0].Rows)
	if strings.Contains(after, "pinclerk") {
		t.Errorf("whoami = %s after a script with a role", after)
	}
	w.state("active", tx+".run.limited", ``)
	w.state("active", tx+".rollback_to", `{"name": "s"}`)
	if after := string(w.state("active", tx+".run.whoami", ``).Results[0].Rows); strings.Contains(after, "pinclerk") || !strings.Contains(after, "alice") {
		t.Errorf("whoami = %s after ROLLBACK TO", after)
	}
	w.state("active", tx+".run.limited", ``)
	w.state("ended", tx+".commit", ``)
}

func TestRollbackOvertakes(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Serve()
	tx := w.begin(``)
	var mu sync.Mutex
	codes := map[string]int{}
	var wg sync.WaitGroup
	inbox := w.Client.NewRespInbox()
	sub, err := w.Client.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	// One is served, 16 wait, 3 are refused at once.
	for i := range 20 {
		script := "balance"
		body := `{"params": {"id": 1}}`
		if i == 0 {
			script, body = "sleep", `{"params": {"seconds": 60}}`
		}
		if err := w.Client.PublishRequest(tx+".run."+script, inbox, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	wg.Go(func() {
		for range 20 {
			msg, err := sub.NextMsg(harness.Patience)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			codes[msg.Header.Get("Nats-Service-Error-Code")+msg.Header.Get("Pgbridge-Transaction")]++
			mu.Unlock()
		}
	})
	testenv.Wait(t, harness.Patience, "three to be refused", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return codes["429active"] == 3
	})
	begun := time.Now()
	expires := w.state("active", tx+".touch", ``).ExpiresAt
	if time.Since(begun) > 5*time.Second || time.Until(expires) < 20*time.Second {
		t.Errorf("touch took %s and renewed to %s", time.Since(begun), expires)
	}
	testenv.Wait(t, harness.Patience, "the script to run", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()") == 1
	})
	begun = time.Now()
	harness.Equal(t, "rollback", w.state("ended", tx+".rollback", ``).Body, "{}")
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("rollback took %s", took)
	}
	wg.Wait()
	harness.Equal(t, "answers", fmt.Sprint(codes), "map[410ended:17 429active:3]")
}

// A COMMIT that cannot be cancelled is not answered as if it had been.
func TestRollbackTooLate(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Write("stubborn", "INSERT INTO stubborn VALUES (1)")
	w.SQL(`CREATE TABLE stubborn (id int);
		CREATE FUNCTION go_on() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN PERFORM pg_sleep(60); RETURN NULL; EXCEPTION WHEN query_canceled THEN RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER go_on AFTER INSERT ON stubborn DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION go_on()`)
	w.Serve()
	tx := w.begin(``)
	w.state("active", tx+".run.stubborn", ``)
	commit := w.async(tx+".commit", ``)
	testenv.Wait(t, harness.Patience, "COMMIT to be where it cannot be cancelled", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'") == 1
	})
	e := w.failsIn("ended", "gone", tx+".rollback", ``)
	if !strings.Contains(e.Message, "committed") {
		t.Errorf("rollback: message %q, want that it was committed", e.Message)
	}
	harness.Equal(t, "commit", code(<-commit), "ok")
	harness.Equal(t, "rows", harness.Value[int](w.World, "SELECT count(*)::int FROM stubborn"), 1)
}

func TestOneAtATimeInOrder(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Write("append", "INSERT INTO seen VALUES (default, @n)")
	w.SQL("CREATE TABLE seen (at serial, n int)")
	w.Serve()
	tx := w.begin(``)
	inbox := w.Client.NewRespInbox()
	sub, err := w.Client.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		if err := w.Client.PublishRequest(tx+".run.append", inbox, fmt.Appendf(nil, `{"params": {"n": %d}}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 15 {
		if msg, err := sub.NextMsg(harness.Patience); err != nil || msg.Header.Get("Nats-Service-Error") != "" {
			t.Fatalf("%v %s", err, msg.Data)
		}
	}
	w.state("ended", tx+".commit", ``)
	harness.Equal(t, "the order", harness.Value[bool](w.World, "SELECT array_agg(n ORDER BY at) = ARRAY(SELECT generate_series(0, 14)) FROM seen"), true)
}

func TestLeases(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	r := w.Serve(func(c *txrunner.Config) { c.Lifetime, c.PinnedConnections = 10*time.Second, 1 })
	tx := w.begin(`{"idle_timeout_ms": 2000}`)
	w.state("active", tx+".run.add", `{"params": {"id": 1, "n": 5}}`)
	w.gone(tx, "2s")
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "100")

	tx = w.begin(`{"idle_timeout_ms": 2000}`) // the clock stands still while work runs
	w.state("active", tx+".run.sleep", `{"params": {"seconds": 2.5}}`)
	w.state("active", tx+".touch", ``)
	w.gone(tx, "2s")

	tx = w.begin(``) // touched all the time, it still ends
	end := time.Now().Add(harness.Patience)
	for w.Ask(tx+".touch", ``).Error == nil {
		if time.Now().After(end) {
			t.Fatal("the lifetime does not end")
		}
	}
	w.gone(tx, "lifetime")
	tx = w.begin(``) // ends while work runs
	a := w.Ask(tx+".run.sleep", `{"params": {"seconds": 60}}`)
	if a.Error == nil || a.Error.Code != "timeout" && a.Error.Code != "gone" {
		t.Errorf("the work at the end of the lifetime was answered %s", a.Body)
	}
	w.gone(tx, "lifetime")
	harness.Equal(t, "logs of an id", leaks(r, tx[strings.LastIndex(tx, ".")+1:]), "")
}

// gone waits until the transaction has ended for a reason.
func (w *world) gone(tx, reason string) {
	w.T.Helper()
	testenv.Wait(w.T, harness.Patience, "the end of a transaction: "+reason, func() bool {
		a := w.Ask(tx+".savepoint", `{"name": ""}`) // refused, and so no use of the lease
		return a.Error.Code == "gone" || w.Ask(tx+".nothing", ``).Error.Code == "gone"
	})
	if e := w.failsIn("ended", "gone", tx+".touch", ``); !strings.Contains(e.Message, reason) {
		w.T.Fatalf("gone: %q, want %q", e.Message, reason)
	}
}

func TestTouchKeepsPostgreSQLAwake(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Serve(func(c *txrunner.Config) { c.IdleTimeout = 2 * time.Second }) // PostgreSQL's own: 7 s
	tx := w.begin(``)
	w.state("active", tx+".run.add", `{"params": {"id": 1, "n": 5}}`)
	pause := time.NewTicker(200 * time.Millisecond)
	defer pause.Stop()
	for begun := time.Now(); time.Since(begun) < 9*time.Second; <-pause.C {
		w.state("active", tx+".touch", ``)
	}
	w.state("ended", tx+".commit", ``)
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "105")
}

func TestStopRollsBack(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	r := w.Serve()
	idle, busy := w.begin(``), w.begin(``)
	w.state("active", idle+".run.add", `{"params": {"id": 1, "n": 5}}`)
	done := make(chan harness.Reply, 1)
	go func() {
		a, _ := w.Try(busy+".run.sleep", `{"params": {"seconds": 4}}`)
		done <- a
	}()
	testenv.Wait(t, harness.Patience, "the script to run", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()") == 1
	})
	begun := time.Now()
	if err := r.Stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	if took := time.Since(begun); took > 9*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if a := <-done; a.Error != nil {
		t.Errorf("work in flight was answered %s", a.Body)
	}
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "100")
	if _, err := w.Try(idle+".touch", ``); err == nil || !strings.Contains(err.Error(), nats.ErrNoResponders.Error()) {
		t.Errorf("after the stop: %v, want no responders", err)
	}
}

func TestLostConnectionEndsTheTransaction(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	w.Serve()
	tx := w.begin(``)
	w.state("active", tx+".run.add", `{"params": {"id": 1, "n": 5}}`)
	testenv.TerminateBackend(t, w.Postgres, "pgbridge")
	e := w.failsIn("ended", "unavailable", tx+".run.add", `{"params": {"id": 1, "n": 5}}`)
	harness.Equal(t, "retryable", e.Retryable, false)
	if e := w.failsIn("ended", "gone", tx+".commit", ``); !strings.Contains(e.Message, "lost") {
		t.Errorf("gone: %q", e.Message)
	}
	w.state("ended", w.begin(``)+".commit", ``)
}

func TestClientsThatDisappear(t *testing.T) {
	t.Parallel()
	w := newPinnedWorld(t)
	r := w.Serve(func(c *txrunner.Config) { c.PinnedConnections = 8 })
	n := testenv.Fewer(10_000)
	jobs := make(chan struct{})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range jobs {
				// The lease may be over before the harness.Reply is written: gone, then.
				a, err := w.Try("begin", `{"idle_timeout_ms": 1}`)
				if err != nil || a.Error != nil && a.Error.Code != "gone" {
					t.Errorf("%v %s", err, a.Body)
				}
			}
		})
	}
	for range n {
		jobs <- struct{}{}
	}
	close(jobs)
	wg.Wait()
	testenv.Wait(t, harness.Patience, "all leases to end", func() bool { return metric(t, r, "pgbridge_transactions_expired_total") >= float64(n) })
	harness.Equal(t, "expired", metric(t, r, "pgbridge_transactions_expired_total"), float64(n))
	harness.Equal(t, "left", metric(t, r, "pgbridge_transactions"), 0)
	harness.Equal(t, "open transactions", harness.Value[int](w.World, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"), 0)
}
