package txrunner_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// leaks returns the first log line that holds a text.
func leaks(r *harness.Running, text string) string {
	for _, e := range r.Logs.All() {
		if line := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// metric returns the sum of a metric's values.
func metric(t testing.TB, c prometheus.Collector, name string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestNothingIsLeftForTheNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"leave": `SELECT set_config('pgbridge.caller', 'mallory', false), set_config('statement_timeout', '7s', false), set_config('role', 'hostileclerk', false);
SELECT pg_advisory_lock(42);
CREATE TEMP TABLE leftover (id int);
SAVEPOINT a; SET LOCAL search_path TO pg_temp; ROLLBACK TO a`,
		"hidden":      "SELECT leave()",
		"impersonate": "SELECT set_config('session_authorization', 'hostileclerk', false)",
		"listen":      "DO $$ BEGIN EXECUTE 'LISTEN hostile'; END $$",
		"look": `SELECT current_setting('pgbridge.caller'), 'hostileclerk' IN (current_user, session_user), current_setting('statement_timeout') = '7s',
	EXISTS (SELECT FROM pg_cursors WHERE name = 'kept'),
	to_regclass('pg_temp.leftover') IS NOT NULL, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`,
		"channels": "SELECT pg_listening_channels()",
		"role":     "SAVEPOINT a; SET LOCAL ROLE hostileclerk; ROLLBACK TO a; SELECT current_user",
	})
	w.SQL(`DO $$ BEGIN CREATE ROLE hostileclerk; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		CREATE FUNCTION leave() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
			CREATE TEMP TABLE IF NOT EXISTS leftover ();
			LISTEN hostile;
			EXECUTE 'DECLARE kept CURSOR WITH HOLD FOR SELECT 1';
			PERFORM pg_advisory_lock(42), set_config('pgbridge.caller', 'mallory', false),
				set_config('statement_timeout', '7s', false), set_config('role', 'hostileclerk', false);
		END $$`)
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.PinnedConnections, c.SQL = 1, 1, &txrunner.SQL{} })
	clean := `[["",false,false,false,false,0]]`
	look := func(after string) {
		t.Helper()
		got := ""
		testenv.Wait(t, harness.Patience, "the locks to be released", func() bool { // after the reply
			got = w.rows("run.look", ``)
			return strings.HasSuffix(got, "0]]")
		})
		harness.Equal(t, "left by "+after, got, clean)
		harness.Equal(t, "channels after "+after, w.rows("run.channels", ``), "[]")
		tx := w.begin(``)
		harness.Equal(t, "left on the pinned connection by "+after, w.rows(tx+".run.look", ``), clean)
		w.state("ended", tx+".rollback", ``)
	}
	look("nothing")
	w.Ask("run.leave", ``)
	look("a script")
	w.rows("run.hidden", ``)
	look("a function")
	w.rows("run.impersonate", ``)
	look("another user")
	harness.Equal(t, "a script that listens", code(w.Ask("run.listen", ``)), "ok")
	look("a script that listens")
	w.Ask("run", `{"sql": "SELECT set_config('pgbridge.caller', 'mallory', false); SELECT pg_advisory_lock(42); CREATE TEMP TABLE IF NOT EXISTS leftover (); SELECT leave()"}`)
	look("a request's SQL")
	tx := w.begin(``)
	w.state("active", tx+".run.hidden", ``)
	w.state("active", tx+".run", `{"sql": "SELECT pg_advisory_lock(42); CREATE TEMP TABLE IF NOT EXISTS leftover ()"}`)
	w.state("ended", tx+".commit", ``)
	look("a pinned transaction")
	if got := w.rows("run.role", ``); strings.Contains(got, "hostileclerk") {
		t.Errorf("current_user = %s after ROLLBACK TO", got)
	}
}

func TestSQLInRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pinnedScripts)
	w.SQL(accounts + `; DO $$ BEGIN CREATE ROLE adhocuser LOGIN PASSWORD 'secret'; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`)
	w.Serve(func(c *txrunner.Config) {
		c.SQL = &txrunner.SQL{ConnString: w.Postgres + "&user=adhocuser&password=secret", Connections: 2}
	})
	harness.Equal(t, "user and caller", w.rows("as.bob.run", `{"sql": "SELECT current_user, current_setting('pgbridge.caller')"}`), `[["adhocuser","bob"]]`)
	harness.Equal(t, "parameters", w.rows("run", `{"sql": "SELECT @a::int + 1, @b::jsonb, @c::text[]", "params": {"a": 1, "b": "x", "c": ["p", null]}}`), `[[2,"x",["p",null]]]`)
	e := w.fails("sql_error", "run", `{"sql": "SELECT * FROM account"}`)
	harness.Equal(t, "another user's table", e.SQLState, "42501")
	for sql, word := range map[string]string{
		"COMMIT": "transaction", "SELECT 1; COPY account TO STDOUT": "COPY", "SET x.y TO 1": "LOCAL", "": "statement", "SELECT '": "no end",
		"LISTEN x": "LISTEN",
	} {
		if e := w.fails("invalid_request", "run", fmt.Sprintf(`{"sql": %q}`, sql)); !strings.Contains(e.Message, word) {
			t.Errorf("%q: message %q", sql, e.Message)
		}
	}
	w.fails("invalid_request", "run", `{"sql": 1}`)
	tx := w.begin(``)
	w.failsIn("active", "denied", tx+".run", `{"sql": "SELECT 1"}`)
}

func TestParametersStayOutOfTheLog(t *testing.T) {
	t.Parallel()
	const secret = "5ecret-value"
	w := newWorld(t, map[string]string{
		"number": "SELECT @a::int", "put": "INSERT INTO thing VALUES (@a)",
		"raise":  "DO $$ BEGIN RAISE EXCEPTION '5ecret-value'; END $$",
		"notice": "DO $$ BEGIN RAISE NOTICE '5ecret-value'; END $$",
		"linked": "hunter2",
	})
	w.SQL("CREATE TABLE thing (v text PRIMARY KEY)")
	w.Migrate()
	r := w.Serve(func(c *txrunner.Config) { c.SQL, c.NoReply = &txrunner.SQL{}, true })
	value := `{"params": {"a": "` + secret + `"}}`
	for range 2 {
		w.Ask("run.number", value)
		w.Ask("run.put", value)
		w.Ask("as.alice.run.put", value, "Nats-Msg-Id", secret)
	}
	w.Ask("run.number", `{"params": {"a": {"b": "`+secret+`"}}}`)
	w.Ask("run.number", `{"params": {"a": "`+secret+`}`)
	w.Ask("run.number", `{"params": "`+secret+`"}`)
	w.Ask("run.number", `{"params": {"a": 1}, "timeout_ms": "`+secret+`"}`)
	w.Ask("run.raise", ``)
	w.Ask("run.notice", ``)
	w.Ask("run", `{"sql": "SELECT @a::int", "params": {"a": "`+secret+`"}}`)
	tx := w.begin(``)
	w.Ask(tx+".run.number", value)
	w.Ask(tx+".commit", ``)
	for _, msg := range []string{"run.number", "run.put"} { // nobody waits for these, so their errors are logged
		if err := w.Client.Publish("pgbridge."+msg, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Wait(t, harness.Patience, "the scripts to be looked at", func() bool { return r.Logs.FilterMessage("a script is faulty").Len() > 0 })
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	harness.Equal(t, "a log line with a parameter", leaks(r, secret), "")
	harness.Equal(t, "a log line with the word of a file that is no script", leaks(r, "hunter2"), "")
	harness.Equal(t, "a log line with a transaction's key", leaks(r, tx[strings.LastIndex(tx, ".")+1:]), "")
}
