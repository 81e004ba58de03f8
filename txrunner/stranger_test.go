package txrunner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Whoever may create a schema makes the table of message ids first, with a trigger that
// would run as pgbridge's login.
func TestTableOfAStranger(t *testing.T) {
	t.Parallel()
	w := newIDWorld(t)
	mallory := harness.Value[string](w.World, "SELECT 'mallory_' || current_database()")
	w.SQL("CREATE ROLE " + mallory + "; DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO " + mallory + "', current_database()); END $$")
	t.Cleanup(func() { testenv.Exec(t, w.Postgres, "DROP OWNED BY "+mallory+" CASCADE; DROP ROLE "+mallory) })
	w.SQL("SET ROLE " + mallory + `; CREATE SCHEMA pgbridge; GRANT ALL ON SCHEMA pgbridge TO PUBLIC;
		CREATE TABLE pgbridge.message_id (prefix text, caller text, kind text, script text, id text, request text, reply text,
			created_at timestamptz DEFAULT now(), PRIMARY KEY (prefix, caller, kind, script, id));
		CREATE TABLE pgbridge.caught (who text, what text);
		CREATE FUNCTION pgbridge.trap() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO pgbridge.caught VALUES (current_user, TG_OP); RETURN NULL; END $f$;
		GRANT ALL ON pgbridge.message_id, pgbridge.caught TO PUBLIC;
		CREATE TRIGGER t AFTER INSERT OR UPDATE OR DELETE ON pgbridge.message_id FOR EACH STATEMENT EXECUTE FUNCTION pgbridge.trap()`)
	r := w.Serve()
	e := w.fails("denied", "run.add", `{"params": {"n": 1}}`, "Nats-Msg-Id", "a")
	if !strings.Contains(e.Message, "belongs to a role") {
		t.Errorf("message %q does not say why", e.Message)
	}
	w.rows("run.add", `{"params": {"n": 1}}`)
	testenv.Wait(t, 30*time.Second, "old message ids to be looked for", func() bool { return r.Logs.FilterMessage("old message ids were not deleted, retrying").Len() > 0 })
	harness.Equal(t, "what ran as pgbridge's login", harness.Value[string](w.World, "SELECT coalesce(string_agg(who || ' ' || what, ', '), '') FROM pgbridge.caught"), "")
	w.SQL("ALTER SCHEMA pgbridge OWNER TO CURRENT_USER; ALTER TABLE pgbridge.message_id OWNER TO CURRENT_USER; DROP TRIGGER t ON pgbridge.message_id")
	w.rows("run.add", `{"params": {"n": 1}}`, "Nats-Msg-Id", "a")
}
