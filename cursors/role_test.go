package cursors_test

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
)

// What PostgreSQL puts off until COMMIT is done as the role of the script that put it
// off, and not as the login.
func TestRolesLastUntilCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"hers":  "-- role: roleteller\nSELECT id FROM vault ORDER BY id",
		"his":   "-- role: roleauditor\nSELECT id FROM vault ORDER BY id",
		"put":   "-- role: roleteller\nINSERT INTO slip VALUES (@note)",
		"plain": "INSERT INTO slip VALUES (@note)",
		"back":  "-- role: roleteller\n-- timeout: 7s\nROLLBACK TO s; INSERT INTO seen SELECT current_user, current_setting('statement_timeout'), current_setting('pgbridge.caller')",
		"seen":  "SELECT * FROM seen ORDER BY who",
	})
	w.SQL(`DO $$ BEGIN CREATE ROLE roleteller; CREATE ROLE roleauditor; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		CREATE TABLE vault (id int); INSERT INTO vault SELECT i FROM generate_series(1, 4) i;
		ALTER TABLE vault ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON vault USING (id < 3 OR current_user <> 'roleteller');
		CREATE TABLE seen (who text, what text, caller text); CREATE TABLE slip (note text);
		CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (current_user, NEW.note, current_setting('pgbridge.caller')); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER later AFTER INSERT ON slip DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see();
		GRANT ALL ON vault, seen, slip TO roleteller, roleauditor`)
	w.serve()
	rows := func(tx string) string {
		t.Helper()
		w.Works(tx+".commit", "")
		a := w.Works(tx+".fetch", `{"cursor": "c1"}`)
		return a.Rows.String()
	}
	harness.Equal(t, "the rest of a held cursor", rows(w.Works("cursor.hers", `{"count": 0, "hold": true}`).Tx), "[1][2]")
	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.hers", `{"count": 0, "hold": true}`)
	w.Fails("invalid_request", tx+".cursor.his", `{"count": 0, "hold": true}`)
	w.Works(tx+".run.plain", `{"params": {"note": "plain"}}`)
	harness.Equal(t, "the rest after a script of the login's", rows(tx), "[1][2]")

	tx = w.Works("begin", "").Tx
	w.Works(tx+".run.plain", `{"params": {"note": "login"}}`)
	w.Works(tx+".savepoint", `{"name": "s"}`)
	w.Works(tx+".run.put", `{"params": {"note": "undone"}}`)
	w.Works(tx+".rollback_to", `{"name": "s"}`)
	w.Works(tx+".run.put", `{"params": {"note": "hers"}}`)
	w.Works(tx+".savepoint", `{"name": "t"}`)
	w.Works(tx+".commit", "")
	tx = w.Works("begin", "").Tx
	w.Works(tx+".run.put", `{"params": {"note": "before"}}`)
	w.Works(tx+".run.plain", `{"params": {"note": "after"}}`)
	w.Works(tx+".commit", "")
	tx = w.Works("begin", "").Tx
	w.Works(tx+".run.put", `{"params": {"note": "only"}}`)
	w.Works(tx+".commit", "")
	tx = w.Works("as.alice.begin", "").Tx
	w.Works(tx+".savepoint", `{"name": "s"}`)
	w.Works(tx+".run.back", "")
	w.Works(tx+".commit", "")
	login := harness.Value[string](w.World, "SELECT current_user::text")
	got := harness.Value[string](w.World, "SELECT string_agg(what || ' ' || CASE who WHEN 'roleteller' THEN who ELSE 'login' END || ' ' || caller, ', ' ORDER BY what) FROM seen WHERE what <> '' AND what !~ '^[0-9]'")
	harness.Equal(t, "who did what was deferred, where the login is "+login, got,
		"after login , before roleteller , hers roleteller , login login , only roleteller , plain login ")
	harness.Equal(t, "after ROLLBACK TO", harness.Value[string](w.World, "SELECT who || ' ' || caller || ' ' || (what::interval BETWEEN '7s' AND '13s') FROM seen WHERE what ~ '^[0-9]'"), "roleteller alice true")
}
