package txrunner_test

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
)

// set gives the world's database a setting, which holds for new sessions.
func (w *world) set(setting, value string) {
	w.T.Helper()
	w.SQL("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET " + setting + " = %L', current_database(), '" + value + "'); END $$")
}

// Who asks for an isolation level makes no difference to what is tried again.
func TestRetriesFollowIsolation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"plain": "SELECT flaky(@times)",
		"read":  "-- isolation: read committed\nSELECT flaky(@times)",
		"never": "-- retries: 0\nSELECT flaky(@times)",
	})
	w.SQL(flaky)
	w.set("default_transaction_isolation", "repeatable read")
	w.Serve()
	harness.Equal(t, "attempts", w.Ask("run.plain", `{"params": {"times": 3}}`).Good(t).Attempts, 4)
	w.fails("conflict", "run.plain", `{"params": {"times": 4}}`)
	for _, name := range []string{"read", "never"} {
		w.SQL("SELECT setval('tries', 1, false)")
		w.fails("conflict", "run."+name, `{"params": {"times": 1}}`)
		harness.Equal(t, "attempts", w.Ask("run."+name, `{"params": {"times": 1}}`).Good(t).Attempts, 1)
	}
}

// The database's time limit for statements holds where it is the shorter one.
func TestLimitOfDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"sleep": "SELECT pg_sleep(60)",
		"limit": "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'",
		"short": "-- timeout: 2s\nSELECT setting::int <= 7000 FROM pg_settings WHERE name = 'statement_timeout'",
	})
	w.set("statement_timeout", "20s")
	w.Serve()
	harness.Equal(t, "the limit", w.rows("run.limit", ``), "[[20000]]")
	tx := w.begin(``)
	harness.Equal(t, "the limit in a pinned transaction", w.rows(tx+".run.limit", ``), "[[20000]]")
	harness.Equal(t, "with a shorter one", w.rows("run.short", ``), "[[true]]")
	w.Ask(tx+".rollback", ``)

	w = newWorld(t, map[string]string{"sleep": "SELECT pg_sleep(60)"})
	w.set("statement_timeout", "100")
	w.Serve()
	harness.Equal(t, "SQLSTATE", w.fails("timeout", "run.sleep", ``).SQLState, "57014")
}

// A null in an array is NULL, whatever the database makes of the word.
func TestNullsInArrays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"nulls": "SELECT @a::text[] AS a, array_position(@a::text[], NULL) AS at"})
	w.set("array_nulls", "off")
	w.Serve()
	const body = `{"params": {"a": ["NULL", null]}}`
	for _, in := range []string{"", w.begin(``) + "."} {
		harness.Equal(t, "the array", w.rows(in+"run.nulls", body), `[[["NULL",null],2]]`)
	}
}

// A script's own time zone and date style decide how its parameters are read.
func TestLocalTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"utc":   "SELECT @at::timestamptz AS at, @day::date AS day",
		"local": "SET LOCAL timezone = 'Asia/Kolkata'; SET LOCAL datestyle = 'ISO, DMY'; SELECT @at::timestamptz AT TIME ZONE 'UTC' AS at, @day::date AS day",
	})
	w.Serve()
	body := `{"params": {"at": "2026-11-22 10:00", "day": "01/02/03"}}`
	for _, in := range []string{"", w.begin(``) + "."} {
		for range 2 {
			harness.Equal(t, "in UTC", w.rows(in+"run.utc", body), `[["2026-11-22 10:00:00+00","2001-02-03"]]`)
			if in != "" {
				w.Ask(in+"savepoint", `{"name": "a"}`)
			}
			harness.Equal(t, "in a zone of its own", w.rows(in+"run.local", body), `[["2026-11-22 04:30:00","2003-02-01"]]`)
			if in != "" {
				w.Ask(in+"rollback_to", `{"name": "a"}`)
			}
		}
	}
}
