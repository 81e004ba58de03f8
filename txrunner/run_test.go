package txrunner_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

const accounts = `CREATE TABLE account (id int PRIMARY KEY, balance numeric NOT NULL CHECK (balance >= 0));
	INSERT INTO account VALUES (1, 100), (2, 100)`

var transfer = map[string]string{
	"billing/transfer": `-- Moves money.
-- isolation: serializable
UPDATE account SET balance = balance - @amount WHERE id = @source;
UPDATE account SET balance = balance + @amount WHERE id = @target;
`,
	"balance": "SELECT id, balance FROM account WHERE id = @id",
}

func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	w.SQL(accounts)
	w.Serve()
	for range 3 {
		a := w.Ask("run.billing.transfer", `{"params": {"source": 1, "target": 2, "amount": "10.50"}}`)
		harness.Equal(t, "the reply", a.Body, `{"results":[{"command":"UPDATE 1","rows_affected":1},{"command":"UPDATE 1","rows_affected":1}],"attempts":1}`)
	}
	a := w.Ask("run.balance", `{"params": {"id": 2}}`)
	harness.Equal(t, "the reply", a.Body, `{"results":[{"columns":[{"name":"id","type":"int4"},{"name":"balance","type":"numeric"}],"rows":[[2,131.50]],"command":"SELECT 1","rows_affected":1}],"attempts":1}`)
	harness.Equal(t, "rows as objects", w.rows("run.balance", `{"params": {"id": 2}, "rows": "object", "big_numbers": "string"}`), `[{"id":2,"balance":"131.50"}]`)
	harness.Equal(t, "no rows", w.rows("run.balance", `{"params": {"id": 3}}`), `[]`)
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	w.Write("out", "COPY account TO STDOUT")
	w.SQL(accounts)
	w.Serve()
	for body, word := range map[string]string{
		`{"params": {"id": 1}`:                   "byte",
		`[]`:                                     "object",
		`null`:                                   "object",
		`{"params": {"id": 1}, "colour": 1}`:     `"colour"`,
		`{"params": {}}`:                         `"id" is missing`,
		``:                                       `"id" is missing`,
		`{"params": {"id": 1, "name": 2}}`:       `"name"`,
		`{"params": {"id": {"a": 1}}}`:           `"id"`,
		`{"params": [1]}`:                        `"params"`,
		`{"params": {"id": 1}, "timeout_ms": 0}`: `"timeout_ms"`,
		`{"params": {"id": 1}, "timeout_ms": "2s"}`:  `"timeout_ms"`,
		`{"params": {"id": 1}, "rows": "tables"}`:    `"rows"`,
		`{"params": {"id": "a\u0000b"}, "rows": 12}`: `"rows"`,
	} {
		if e := w.fails("invalid_request", "run.balance", body); !strings.Contains(e.Message, word) {
			t.Errorf("%s: message %q, want it to name %s", body, e.Message, word)
		}
	}
	e := w.fails("sql_error", "run.balance", `{"params": {"id": "one"}}`)
	harness.Equal(t, "sqlstate", e.SQLState, "22P02")
	harness.Equal(t, "statement", e.Statement, 1)
	w.fails("not_found", "run.nothing", ``)
	w.fails("not_found", "as.alice.run.nothing", ``)
	w.fails("not_found", "as.alice.explode", ``)
	w.fails("invalid_request", "as.a%6Cice.run.balance", `{"params": {"id": 1}}`)
	w.fails("invalid_request", "run.out", ``)
	w.fails("denied", "run", `{"sql": "SELECT 1"}`)
}

func TestErrorsSayWhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"first":    "-- Fails at once.\n\nSELECT nothing FROM account;\nSELECT 1",
		"middle":   "UPDATE account SET balance = 0;\n\n  UPDATE account\n  SET balance = @é_1::int / @zero::int;\nSELECT 1",
		"wrong":    "UPDATE account SET balance = 0;\nSELECT 'é', @id::int, missing FROM account",
		"deferred": "INSERT INTO child VALUES (@parent)",
		"raise":    "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'U0001', MESSAGE = 'no luck', DETAIL = 'none'; END $$",
	})
	w.SQL(accounts + `; CREATE TABLE child (parent int REFERENCES account DEFERRABLE INITIALLY DEFERRED)`)
	w.Serve()
	e := w.fails("sql_error", "run.first", ``)
	harness.Equal(t, "first", words(e.SQLState, e.Statement, e.Line, e.Position), "42703 1 3 8")
	for range 2 {
		e = w.fails("sql_error", "run.middle", `{"params": {"é_1": 1, "zero": 0}}`)
		harness.Equal(t, "middle", words(e.SQLState, e.Statement, e.Line), "22012 2 3")
		e = w.fails("sql_error", "run.wrong", `{"params": {"id": 1}}`)
		harness.Equal(t, "wrong", words(e.SQLState, e.Statement, e.Line, e.Position), "42703 2 2 23")
		e = w.fails("sql_error", "run.deferred", `{"params": {"parent": 77}}`)
		harness.Equal(t, "deferred", words(e.SQLState, e.Statement, e.Constraint), "23503 0 child_parent_fkey")
		e = w.fails("sql_error", "run.raise", ``)
		harness.Equal(t, "raise", e.SQLState+e.Message+e.Detail, "U0001no lucknone")
	}
	harness.Equal(t, "sum of balances", harness.Value[string](w.World, "SELECT sum(balance)::text FROM account"), "200")
}

func TestLaterStatementsSeeEarlierOnes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"temp": `CREATE TEMP TABLE scratch (id int, tags text[], doc jsonb);
INSERT INTO scratch VALUES (@id, @tags, @doc);
SELECT * FROM scratch`,
		"notice":    `DO $$ BEGIN RAISE NOTICE 'é %', 1; RAISE WARNING 'two'; END $$`,
		"alter":     "ALTER TABLE grown ADD COLUMN IF NOT EXISTS b int DEFAULT 2; SELECT * FROM grown; SELECT count(*) FROM grown",
		"savepoint": `SAVEPOINT a; UPDATE account SET balance = 1; ROLLBACK TO a; SELECT sum(balance) FROM account`,
		"fetch":     `DECLARE c CURSOR FOR SELECT id FROM account ORDER BY id; FETCH ALL FROM c`,
	})
	w.SQL(accounts + "; CREATE TABLE grown (a int); INSERT INTO grown VALUES (1)")
	w.Serve(func(c *txrunner.Config) { c.RunConnections = 1 })
	for range 3 {
		a := w.Ask("run.alter", ``)
		if a.Error != nil || string(a.Results[1].Rows) != "[[1,2]]" || string(a.Results[2].Rows) != "[[1]]" {
			t.Errorf("alter: %s", a.Body)
		}
		harness.Equal(t, "temporary table", w.rows("run.temp", `{"params": {"id": 7, "tags": ["a", null, "b,c"], "doc": "text"}}`), `[[7,["a",null,"b,c"],"text"]]`)
		a = w.Ask("run.notice", ``)
		harness.Equal(t, "notices", fmt.Sprint(a.Notices), "[map[message:é 1 severity:NOTICE] map[message:two severity:WARNING sqlstate:01000]]")
		harness.Equal(t, "savepoint", w.rows("run.savepoint", ``), `[[200]]`)
		harness.Equal(t, "fetch", w.rows("run.fetch", ``), `[[1],[2]]`)
	}
}

// Types that have to be looked up while a statement is waiting to be executed.
func TestTypesOfLaterStatements(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"row": `CREATE TEMP TABLE scratch (id int) ON COMMIT DROP;
INSERT INTO scratch VALUES (@id);
SELECT scratch FROM scratch`})
	w.SQL("CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE felt (moods mood[]); CREATE DOMAIN age AS int")
	w.Serve(func(c *txrunner.Config) { c.SQL = &txrunner.SQL{} })
	for range 2 { // a new type each time
		harness.Equal(t, "a table's row", w.rows("run.row", `{"params": {"id": 7}}`), `[["(7)"]]`)
	}
	a := w.Ask("run", `{"sql": "INSERT INTO felt VALUES (@moods)", "params": {"moods": []}}`)
	if a.Error != nil || a.Results[0].Command != "INSERT 0 1" {
		t.Errorf("an INSERT was answered %s", a.Body)
	}
	harness.Equal(t, "rows", harness.Value[int](w.World, "SELECT count(*)::int FROM felt"), 1)
	tx := w.begin(``)
	harness.Equal(t, "in a pinned transaction", w.rows(tx+".run", `{"sql": "SELECT @a::age", "params": {"a": 3}}`), "[[3]]")
}

func TestPreparedAgainAfterDDL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"all": "SELECT * FROM thing", "put": "INSERT INTO thing VALUES (@v)", "mixed": "UPDATE thing SET v = v; SELECT * FROM thing",
	})
	w.SQL("CREATE TABLE thing (v int)")
	w.Serve(func(c *txrunner.Config) { c.RunConnections = 2 })
	for i, ddl := range []string{"SELECT 1", "ALTER TABLE thing ADD w text", "ALTER TABLE thing ALTER v TYPE text", "DROP TABLE thing; CREATE TABLE thing (v date)"} {
		w.SQL(ddl)
		for range 4 {
			for _, name := range []string{"all", "mixed"} {
				if a := w.Ask("run."+name, ``); a.Error != nil {
					t.Errorf("after %q: %+v", ddl, *a.Error)
				}
			}
			body := `{"params": {"v": "2020-01-02"}}`
			if i < 2 {
				body = `{"params": {"v": 1}}`
			}
			if a := w.Ask("run.put", body); a.Error != nil {
				t.Errorf("put after %q: %+v", ddl, *a.Error)
			}
		}
	}
}

// A statement that turns out to return rows when COMMIT was sent along with it
// is no reason to do it all again.
func TestUnforeseenRowsAreNotRunTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"call": `CREATE TEMP TABLE scratch (a int) ON COMMIT DROP;
INSERT INTO scratch VALUES (1);
CALL work(1);
INSERT INTO done VALUES (1)`})
	w.SQL("CREATE TABLE done (a int); CREATE PROCEDURE work(a int) LANGUAGE sql AS 'SELECT 1'")
	w.Serve()
	w.Ask("run.call", ``)
	w.SQL("DROP PROCEDURE work; CREATE PROCEDURE work(INOUT a int) LANGUAGE sql AS 'SELECT 1'")
	a := w.Ask("run.call", ``)
	if a.Error != nil || string(a.Results[2].Rows) != "[[1]]" {
		t.Errorf("answered %s", a.Body)
	}
	harness.Equal(t, "runs", harness.Value[int](w.World, "SELECT count(*)::int FROM done"), 2)
}

// A function can drop what is prepared, our own statements too.
func TestPreparedAgainAfterDeallocate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"drop": "SELECT drop()", "one": "SELECT 1", "two": "SELECT 2", "three": "SELECT 3"})
	w.SQL("CREATE FUNCTION drop() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
	w.Serve(func(c *txrunner.Config) { c.RunConnections = 1 })
	for i := range 2 {
		w.rows("run.one", ``)
		w.rows("run.drop", ``)
		harness.Equal(t, "a script that was prepared", w.rows("run.one", ``), "[[1]]")
		w.rows("run.drop", ``)
		harness.Equal(t, "one that was not", w.rows("run."+[]string{"two", "three"}[i], ``), "[["+string("23"[i])+"]]")
	}
}

// What cannot be described is not left prepared each time it is tried.
func TestPreparedStatementsDoNotPileUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"mood": "SELECT @a::mood", "count": "SELECT count(*) < 15 FROM pg_prepared_statements"})
	w.SQL(`DO $$ BEGIN CREATE ROLE blindclerk LOGIN PASSWORD 'secret'; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		CREATE TYPE mood AS ENUM ('glad'); REVOKE SELECT ON pg_catalog.pg_type FROM PUBLIC`)
	w.Serve(func(c *txrunner.Config) {
		c.RunConnections, c.ConnString = 1, w.Postgres+"&user=blindclerk&password=secret"
	})
	for range 30 {
		w.fails("sql_error", "run.mood", `{"params": {"a": "glad"}}`)
	}
	harness.Equal(t, "few statements are prepared", w.rows("run.count", ``), "[[true]]")
}

func TestTooLargeDoesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"write": "UPDATE account SET balance = balance + 1; SELECT repeat('x', @n) FROM account",
		"read":  "-- read_only: true\nSELECT repeat('x', @n) FROM generate_series(1, 100000)",
	})
	w.SQL(accounts)
	w.Serve()
	for range 2 {
		w.fails("too_large", "run.write", `{"params": {"n": 600000}}`)
		w.fails("too_large", "run.read", `{"params": {"n": 1000}}`)
	}
	harness.Equal(t, "sum of balances", harness.Value[string](w.World, "SELECT sum(balance)::text FROM account"), "200")
	w.rows("run.write", `{"params": {"n": 500000}}`)
	harness.Equal(t, "sum of balances", harness.Value[string](w.World, "SELECT sum(balance)::text FROM account"), "202")
}

// flaky has serialization failures. A sequence counts what a rollback undoes
// everywhere else.
const flaky = `CREATE SEQUENCE tries; CREATE FUNCTION flaky(times int) RETURNS int LANGUAGE plpgsql AS $$
	BEGIN
		IF nextval('tries') <= times THEN RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'again'; END IF;
		PERFORM setval('tries', 1, false);
		RETURN 1;
	END $$`

func TestRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"plain":   "SELECT flaky(@times)",
		"three":   "-- isolation: serializable\nSELECT flaky(@times)",
		"one":     "-- retries: 1\nSELECT flaky(@times)",
		"divided": "-- isolation: repeatable read\nSELECT flaky(@times); SELECT 1 / (SELECT @zero::int)",
	})
	w.SQL(flaky)
	w.Serve()
	a := w.Ask("run.three", `{"params": {"times": 3}}`)
	harness.Equal(t, "attempts", a.Attempts, 4)
	e := w.fails("conflict", "run.three", `{"params": {"times": 4}}`)
	harness.Equal(t, "retryable", e.Retryable, true)
	w.SQL("SELECT setval('tries', 1, false)")
	w.fails("conflict", "run.plain", `{"params": {"times": 1}}`)
	harness.Equal(t, "attempts", w.Ask("run.plain", `{"params": {"times": 1}}`).Attempts, 1)
	harness.Equal(t, "attempts", w.Ask("run.one", `{"params": {"times": 1}}`).Attempts, 2)
	e = w.fails("sql_error", "run.divided", `{"params": {"times": 1, "zero": 0}}`)
	harness.Equal(t, "the error of the second attempt", e.SQLState, "22012")
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"sleep": "SELECT pg_sleep(@seconds)",
		"short": "-- timeout: 1500ms\nUPDATE account SET balance = 0; SELECT pg_sleep(60)",
		"steps": "SELECT pg_sleep(0.6); SELECT pg_sleep(0.6); SELECT pg_sleep(0.6); SELECT pg_sleep(0.6)",
		"lock":  "UPDATE account SET balance = balance - 1 WHERE id = 1",
		"one":   "-- concurrency: 1\nSELECT pg_sleep(@seconds)",
	})
	w.SQL(accounts)
	w.Serve(func(c *txrunner.Config) { c.RunConnections = 3 })
	begun := time.Now()
	e := w.fails("timeout", "run.short", ``)
	harness.Equal(t, "retryable", e.Retryable, true)
	w.fails("timeout", "run.steps", `{"timeout_ms": 1500}`)
	w.fails("timeout", "run.sleep", `{"timeout_ms": 1000, "params": {"seconds": 60}}`)
	harness.Equal(t, "sum of balances", harness.Value[string](w.World, "SELECT sum(balance)::text FROM account"), "200")

	tx := w.Ask("begin", ``).Tx
	w.Ask(tx+".run.lock", ``)
	w.fails("timeout", "run.lock", `{"timeout_ms": 1000}`)
	w.Ask(tx+".rollback", ``)
	w.Ask("run.lock", ``)

	var wg sync.WaitGroup
	busy := make(chan string, 2)
	for range 2 {
		wg.Go(func() {
			if a, err := w.Try("run.one", `{"timeout_ms": 4000, "params": {"seconds": 2.5}}`); err == nil && a.Error != nil {
				busy <- a.Error.Code
			}
		})
	}
	wg.Wait()
	if len(busy) != 1 {
		t.Errorf("%d of two runs failed at a concurrency of 1, want 1", len(busy))
	} else if code := <-busy; code != "timeout" && code != "busy" {
		t.Errorf("code %s, want timeout or busy", code)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("all took %s", took)
	}
	harness.Equal(t, "statements left running", harness.Value[int](w.World, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()"), 0)
}

func TestBusyPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"sleep": "SELECT pg_sleep(@seconds)"})
	w.Serve(func(c *txrunner.Config) { c.RunConnections = 1 })
	done := make(chan harness.Reply, 1)
	go func() {
		a, _ := w.Try("run.sleep", `{"params": {"seconds": 5}}`)
		done <- a
	}()
	testenv.Wait(t, harness.Patience, "the connection to be in use", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()") == 1
	})
	w.fails("busy", "run.sleep", `{"timeout_ms": 200, "params": {"seconds": 0}}`)
	if a := <-done; a.Error != nil {
		t.Errorf("the first: %+v", *a.Error)
	}
}

func TestThousandRequestsOnEightConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"add": "UPDATE account SET balance = balance + @n WHERE id = 1 RETURNING balance"})
	w.SQL(accounts)
	w.Serve()
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			a, err := w.Try("run.add", `{"params": {"n": 1}}`)
			for err == nil && a.Error != nil && a.Error.Code == "busy" { // a slow machine; nothing was done
				a, err = w.Try("run.add", `{"params": {"n": 1}}`)
			}
			if err != nil || a.Error != nil {
				t.Errorf("%v %s", err, a.Body)
			}
		})
	}
	wg.Wait()
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "1100")
	if n := harness.Value[int](w.World, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgbridge'"); n > 9 {
		t.Errorf("%d connections, want at most 8 and one that checks the scripts", n)
	}
}

// words joins values with spaces.
func words(values ...any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

// What cannot write is sent along with COMMIT, and once more where that may help.
func TestReadOnlyIsForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"first":  "-- read_only: true\nSET LOCAL transaction_read_only = off; INSERT INTO account VALUES (7, 7)",
		"quoted": "-- read_only: true\nLOCK TABLE account IN ACCESS SHARE MODE; SET LOCAL \"transaction_read_only\" TO 'off'; INSERT INTO account VALUES (7, 7)",
		"later":  "-- read_only: true\nSELECT 1; SET LOCAL transaction_read_only = off; INSERT INTO account VALUES (7, 7)",
	})
	w.SQL(accounts)
	w.Serve()
	for _, name := range []string{"first", "quoted", "later"} {
		for range 2 {
			w.fails("sql_error", "run."+name, ``)
		}
	}
	harness.Equal(t, "rows written", harness.Value[int](w.World, "SELECT count(*)::int FROM account WHERE id = 7"), 0)
}
