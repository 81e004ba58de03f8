package txrunner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// leftovers are what functions can leave on a connection, one by one, and what the
// next request sees of it if nobody takes it away.
var leftovers = map[string]string{
	"read only":         `PERFORM set_config('default_transaction_read_only', 'on', false);`,
	"isolation":         `PERFORM set_config('default_transaction_isolation', 'serializable', false);`,
	"deferrable":        `PERFORM set_config('default_transaction_deferrable', 'on', false);`,
	"encoding":          `PERFORM set_config('client_encoding', 'LATIN1', false);`,
	"time limit":        `PERFORM set_config('statement_timeout', '1ms', false);`,
	"search path":       `PERFORM set_config('search_path', 'pg_temp', false);`,
	"a setting":         `PERFORM set_config('app.user', 'mallory', false);`,
	"a role":            `PERFORM set_config('role', 'leftoverclerk', false);`,
	"a user":            `PERFORM set_config('session_authorization', 'leftoverclerk', false);`,
	"a temporary table": `CREATE TEMP TABLE ledger AS SELECT 'mallory'::text AS v;`,
	"a held cursor":     `EXECUTE 'DECLARE kept CURSOR WITH HOLD FOR SELECT 1';`,
	"a channel":         `LISTEN leftover;`,
	"a sequence":        `PERFORM nextval('counted');`,
	"a session's lock":  `PERFORM pg_advisory_lock(42), pg_advisory_lock_shared(43);`,
	"a statement":       `EXECUTE 'PREPARE stays AS SELECT 1';`,
	"no statements":     `EXECUTE 'DEALLOCATE ALL';`,
	"other statements": `DECLARE s record; BEGIN FOR s IN SELECT name, parameter_types FROM pg_prepared_statements LOOP
		EXECUTE format('DEALLOCATE %I', s.name);
		EXECUTE format('PREPARE %I%s AS SELECT ''mallory''::text', s.name, coalesce('(' || nullif(array_to_string(s.parameter_types::text[], ','), '') || ')', ''));
	END LOOP; END;`,
	"a place among what cleans": `PERFORM take_place('%pg_advisory_unlock_all%', 'SESSION_USER, current_setting(''role''), 0::oid, NULL::void');`,
	"a place before that":       `PERFORM take_place('RESET ALL', '');`,
}

// lookScript shows what is left, all in one row.
const lookScript = `SELECT current_setting('transaction_read_only'), current_setting('transaction_isolation'), current_setting('transaction_deferrable'),
	current_setting('client_encoding'), current_setting('statement_timeout') = '1ms', current_setting('search_path'), coalesce(current_setting('app.user', true), ''),
	'leftoverclerk' IN (current_user, session_user), v, EXISTS (SELECT FROM pg_cursors WHERE name = 'kept'), (SELECT count(*) FROM pg_listening_channels()),
	(SELECT count(*) FROM pg_prepared_statements WHERE from_sql) FROM ledger`

const lookedClean = `[["off","read committed","off","UTF8",false,"\"$user\", public","",false,"ours",false,0,0]]`

func newLeftoverWorld(t *testing.T) *world {
	t.Helper()
	scripts := map[string]string{
		"look": lookScript, "write": "UPDATE ledger SET v = v WHERE v = @v", "fresh": lookScript + " WHERE true",
		"sequence": "DO $$ BEGIN PERFORM lastval(); RAISE EXCEPTION 'lastval() is there'; EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END $$",
	}
	w := newWorld(t, scripts)
	w.SQL(`DO $$ BEGIN CREATE ROLE leftoverclerk; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		CREATE SEQUENCE counted; CREATE TABLE ledger (v text); INSERT INTO ledger VALUES ('ours')`)
	w.SQL(takePlaces)
	return w
}

// takePlaces makes a function that puts a statement in the place of one of pgbridge's,
// which leaves things when it is executed, and no trace of itself.
const takePlaces = `CREATE FUNCTION vanish(name text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
	EXECUTE format('DEALLOCATE %I', name);
	CREATE TEMP TABLE ledger AS SELECT 'mallory'::text AS v;
	PERFORM set_config('search_path', 'pg_temp', false), set_config('app.user', 'mallory', false);
	RETURN true;
END $$;
CREATE FUNCTION take_place(what text, columns text) RETURNS void LANGUAGE plpgsql AS $$ DECLARE ours text; BEGIN
	SELECT name INTO ours FROM pg_prepared_statements WHERE statement LIKE what AND NOT from_sql;
	IF FOUND THEN
		EXECUTE format('DEALLOCATE %I', ours);
		EXECUTE format('PREPARE %I AS SELECT %s FROM vanish(%L)', ours, columns, ours);
	END IF;
END $$`

// leaver makes a function and a script that reaches it, and one that fails after it.
func (w *world) leaver(name, body string) {
	w.T.Helper()
	w.SQL("CREATE OR REPLACE FUNCTION leave_" + name + "() RETURNS void LANGUAGE plpgsql AS $leave$ BEGIN " + body + " END $leave$")
	w.Write("leave_"+name, "SELECT leave_"+name+"()")
	w.Write("read_"+name, "-- read_only: true\nSELECT leave_"+name+"()")
	w.Write("fail_"+name, "SELECT leave_"+name+"(); DO $$ BEGIN RAISE EXCEPTION 'after that'; END $$")
}

// TestFunctionsLeaveNothing holds that what a script reaches cannot change what the
// next caller's means, neither where it is prepared already nor where it is not,
// neither after its COMMIT nor after its error.
func TestFunctionsLeaveNothing(t *testing.T) {
	t.Parallel()
	for what, body := range leftovers {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newLeftoverWorld(t)
			w.leaver("it", body)
			w.Serve(func(c *txrunner.Config) { c.RunConnections, c.PinnedConnections, c.Share = 1, 1, 1 })
			look := func(after string) {
				t.Helper()
				harness.Equal(t, "seen after "+after, w.rows("as.bob.run.look", ``), lookedClean)
				w.Works("as.bob.run.write", `{"params": {"v": "ours"}}`)
				w.Works("as.bob.run.sequence", ``)
			}
			leave := func() {
				a := w.Ask("as.mallory.run.leave_it", ``)
				if a.Error != nil && what != "other statements" && !strings.Contains(body, "take_place") { // COMMIT was one of them, or it has left this for itself
					t.Fatalf("leaving it: %+v", *a.Error)
				}
			}
			look("nothing")
			leave()
			w.noLocks("a run")
			look("a run")
			leave()
			harness.Equal(t, "seen by what is prepared just now", w.rows("as.bob.run.fresh", ``), lookedClean)
			w.Ask("as.mallory.run.fail_it", ``)
			w.noLocks("an error")
			look("an error")
			leave()
			leave() // in the same name, in which it finds what it has left
			look("two runs")
			w.Ask("as.mallory.run.read_it", ``)
			w.noLocks("a run that only reads")
			look("a run that only reads")
		})
	}
}

// TestNobodyElseCatchesUp holds that a catch-up script, which no client has asked for, is run
// as if a caller of its own did: what it returns is announced as all that was missed.
func TestNobodyElseCatchesUp(t *testing.T) {
	t.Parallel()
	w := newLeftoverWorld(t)
	w.leaver("it", `PERFORM take_place('%pg_advisory_unlock_all%', 'SESSION_USER, current_setting(''role''), 0::oid, NULL::void');`)
	w.Write("missed", "SELECT v FROM ledger WHERE now() >= @since")
	r := w.Serve(func(c *txrunner.Config) { c.RunConnections, c.PinnedConnections, c.Share = 1, 1, 1 })
	for range 3 {
		if got, err := caughtUp(r.Runner, "missed", time.Unix(0, 0)); err != nil || len(got) != 1 || got[0] != "ours" {
			t.Errorf("what was missed: %q, %v; want that it is ours", got, err)
		}
		w.Ask("run.leave_it", ``)
	}
}

// TestCallersShareWhatIsPrepared holds that a session stays what it is when it goes from one
// caller to another, whatever it was used for, as long as nobody has meddled with it.
func TestCallersShareWhatIsPrepared(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"session": "SELECT pg_backend_pid(), (SELECT min(substr(name, 10)::int) FROM pg_prepared_statements WHERE name ~ '^pgbridge_')",
		"fails":   "SELECT 1 / @n::int", "unknown": "SELECT FROM missing", "half": "SELECT 1; SELECT FROM missing", "read": "-- read_only: true\nSELECT @n::int",
		"later": "CREATE TEMP TABLE scratch (n int) ON COMMIT DROP; INSERT INTO scratch VALUES (@n); SELECT n FROM scratch",
		"large": "SELECT repeat('x', 3000000), @n::int", "role": "-- role: pg_monitor\nSELECT @n::int",
		"table": "SELECT v FROM ledger WHERE v <> @n::text", "write": "INSERT INTO ledger VALUES (@n::text)",
	})
	w.SQL("CREATE TABLE ledger (v text); GRANT ALL ON ledger TO pg_monitor")
	w.Migrate()
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.PinnedConnections, c.Share = 1, 1, 1 })
	session := w.rows("as.alice.run.session", ``)
	for i := range 3 {
		for _, name := range []string{"fails", "unknown", "half", "read", "later", "large", "role", "table", "write"} {
			for _, caller := range []string{"alice", "bob"} {
				body := fmt.Sprintf(`{"params": {"n": %d}}`, i)
				if name == "unknown" || name == "half" {
					body = ``
				}
				w.Ask("as."+caller+".run."+name, body)
				w.Ask("as."+caller+".run."+name, body, "Nats-Msg-Id", fmt.Sprint(name, i))
				w.Ask("as."+caller+".describe."+name, ``)
			}
		}
		w.SQL(fmt.Sprintf("ALTER TABLE ledger ADD COLUMN c%d int", i))
		harness.Equal(t, "the session and the first statement that it has prepared", w.rows("as.bob.run.session", ``), session)
	}
}

// noLocks waits until no session has an advisory lock, without asking pgbridge for
// anything.
func (w *world) noLocks(after string) {
	w.T.Helper()
	testenv.Wait(w.T, harness.Patience, "the locks to be released after "+after, func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == 0
	})
}
