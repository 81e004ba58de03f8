package txrunner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestLargeRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"length": "SELECT length(@text)", "echo": "SELECT @text::text"})
	w.NATS = testenv.NATS(t, func(o *server.Options) { o.MaxPayload, o.MaxPending = 16<<20, 64<<20 })
	w.Client = w.NATS.Connect(t)
	w.Serve()
	n := 10 << 20
	if testing.Short() { // the race detector looks at each byte
		n = 2 << 20
	}
	body := `{"params": {"text": "` + strings.Repeat("x", n) + `"}}`
	harness.Equal(t, "the length", w.rows("run.length", body), fmt.Sprintf("[[%d]]", n))
	harness.Equal(t, "the echo's length", len(w.rows("run.echo", body)), n+6)
	w.fails("invalid_request", "run.length", body[:len(body)-1])
}

func TestOldMessageIDsArePurged(t *testing.T) {
	t.Parallel()
	w := newIDWorld(t)
	w.Migrate()
	w.SQL(`INSERT INTO pgbridge.message_id (prefix, caller, kind, script, id, request, reply, created_at)
		SELECT prefix, '', 'run', 'add', n::text, '', '{}', now() - age FROM generate_series(1, 2500) n,
			(VALUES ('pgbridge', interval '25 hours'), ('pgbridge.young', interval '1 hour'), ('other', interval '25 hours')) AS p (prefix, age)`)
	w.Serve()
	testenv.Wait(t, harness.Patience, "the old ids to go", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pgbridge.message_id WHERE prefix = 'pgbridge'") == 0
	})
	harness.Equal(t, "other ids", harness.Value[int](w.World, "SELECT count(*)::int FROM pgbridge.message_id"), 5000)
	w.rows("run.add", `{"params": {"n": 1}}`, "Nats-Msg-Id", "7")
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "101")
}

// A login whose transactions only read as a rule has ids, too: of read-only scripts.
func TestOldMessageIDsArePurgedByALoginThatReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"one": "-- read_only: true\nSELECT 1"})
	w.Migrate()
	w.SQL(`INSERT INTO pgbridge.message_id (prefix, caller, kind, script, id, request, reply, created_at)
		VALUES ('pgbridge', '', 'run', 'one', 'old', '', '{}', now() - interval '25 hours')`)
	w.SQL(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
	w.Serve()
	w.rows("run.one", ``, "Nats-Msg-Id", "new")
	testenv.Wait(t, harness.Patience, "the old id to go", func() bool {
		return harness.Value[string](w.World, "SELECT string_agg(id, ' ' ORDER BY id) FROM pgbridge.message_id") == "new"
	})
}

func TestManyNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"talk": "DO $$ BEGIN FOR i IN 1..10000 LOOP RAISE NOTICE '%', repeat('\"', 100); END LOOP; END $$",
	})
	w.Serve()
	for range 2 {
		a := w.Ask("run.talk", ``)
		if n := len(a.Notices); a.Error != nil || n < 100 || n == 10_000 || len(a.Body) > 100_000 {
			t.Errorf("%d notices in %d bytes, want some of them", n, len(a.Body))
		}
	}
}

func TestManyScriptsOnOneConnection(t *testing.T) {
	t.Parallel()
	const n = 600 // more than a connection keeps prepared
	w := newWorld(t, nil)
	for i := range n {
		w.Write(fmt.Sprintf("s%d", i), fmt.Sprintf("SELECT %d + @a::int; SELECT 1", i))
	}
	w.Write("kept", "SELECT count(*) BETWEEN 500 AND 560 FROM pg_prepared_statements")
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	for range 2 {
		for i := range n {
			if a := w.Ask(fmt.Sprintf("run.s%d", i), `{"params": {"a": 1}}`); a.Error != nil || string(a.Results[0].Rows) != fmt.Sprintf("[[%d]]", i+1) {
				t.Fatalf("s%d: %s", i, a.Body)
			}
		}
	}
	harness.Equal(t, "what is kept prepared is bounded", w.rows("run.kept", ``), "[[true]]")
}

// Rows larger than all memory that requests may have are refused while they are
// read, and the connection goes on.
func TestRowsLargerThanTheBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"huge":  "SELECT repeat('x', 100 << 20)",
		"shout": "DO $$ BEGIN RAISE NOTICE '%', repeat('x', 50 << 20); RAISE EXCEPTION '%', repeat('y', 50 << 20); END $$",
		"one":   "SELECT 1",
	})
	r := w.Serve(func(c *txrunner.Config) { c.RequestBytes, c.RunConnections, c.Share = 8<<20, 1, 1 })
	pid := func() int {
		return harness.Value[int](w.World, "SELECT min(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgbridge'")
	}
	harness.Equal(t, "a row", w.rows("run.one", ``), "[[1]]")
	before := pid()
	for range 3 {
		w.fails("too_large", "run.huge", ``)
		if e := w.fails("sql_error", "run.shout", ``); e.SQLState != "P0001" || len(e.Message) > 8<<10 {
			t.Errorf("the error has SQLSTATE %s and %d bytes", e.SQLState, len(e.Message))
		}
	}
	harness.Equal(t, "a row", w.rows("run.one", ``), "[[1]]")
	harness.Equal(t, "the backend", pid(), before)
	w.failsIn("ended", "too_large", w.begin(``)+".run.huge", ``)
	harness.Equal(t, "problems", len(r.Problems()), 0)
}

// SQL of a request's own can use what it has brought any number of times, and return what
// takes far more memory here than on its way.
func TestOwnSQLTakesNoMoreMemoryThanThereIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.Serve(func(c *txrunner.Config) { c.SQL, c.RequestBytes, c.Share = &txrunner.SQL{}, 16<<20, 1 })
	w.fails("invalid_request", "run", `{"sql": "`+strings.Repeat("TABLE x;", 2000)+`"}`)
	w.fails("too_large", "run", `{"sql": "SELECT `+strings.Repeat("1,", 250_000)+`1"}`)
	long := `, "params": {"p": "` + strings.Repeat("x", 500_000) + `"}}`
	w.fails("busy", "run", `{"sql": "`+strings.Repeat("SELECT length(@p);", 100)+`"`+long)
	harness.Equal(t, "a few of them", w.rows("run", `{"sql": "`+strings.Repeat("SELECT length(@p);", 4)+`"`+long), "[[500000]]")
	harness.Equal(t, "a row", w.rows("run", `{"sql": "SELECT 1"}`), "[[1]]")
}

// Rows whose types have to be looked up are kept until then, and NULLs take memory, too.
func TestRowsOfUnknownTypesCount(t *testing.T) {
	t.Parallel()
	nulls := "SELECT " + strings.Repeat("NULL::information_schema.tables,", 1500) + "1 FROM generate_series(1, 120)"
	w := newWorld(t, map[string]string{
		"narrow": "DECLARE c CURSOR FOR SELECT 1", "wide": "DECLARE c CURSOR FOR " + nulls, "fetch": "FETCH ALL FROM c",
	})
	w.Serve(func(c *txrunner.Config) { c.RequestBytes, c.Share = 4<<20, 1 })
	tx := w.begin(``)
	w.Works(tx+".run.narrow", ``)
	w.Works(tx+".run.fetch", ``) // so it is known what that returns
	w.Works(tx+".rollback", ``)
	tx = w.begin(``)
	w.Works(tx+".run.wide", ``)
	w.failsIn("ended", "too_large", tx+".run.fetch", ``)
}

// A result of NULLs that does not fit a message is given up, as one of values is.
func TestNullsWithoutEnd(t *testing.T) {
	t.Parallel()
	const endless = "-- timeout: 40s\nSELECT NULL FROM (SELECT generate_series(1, 1000000000)) AS n"
	w := newWorld(t, map[string]string{"nulls": endless, "all": strings.Replace(endless, "NULL", strings.Repeat("NULL, ", 500)+"NULL", 1)})
	w.Serve()
	begun := time.Now()
	w.fails("too_large", "run.nulls", ``)
	w.fails("too_large", "run.all", ``)
	w.failsIn("ended", "too_large", w.begin(``)+".run.nulls", ``)
	if took := time.Since(begun); took > 35*time.Second {
		t.Errorf("it took %s", took) // as long as the script may
	}
}
