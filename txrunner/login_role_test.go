package txrunner_test

import (
	"fmt"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// A login can begin with another role than its own. It is that of all scripts that have
// none, whoever calls them and whatever ran on the connection before.
func TestLoginThatBeginsWithARole(t *testing.T) {
	t.Parallel()
	const whoami = "SELECT current_user = 'app_' || current_database() AS app, session_user = current_user AS login"
	w := newWorld(t, map[string]string{"who": whoami, "read": "-- read_only: true\n" + whoami, "other": "-- role: pg_monitor\nSELECT current_user::text", "leave": "SELECT stay()"})
	app := harness.Value[string](w.World, "SELECT 'app_' || current_database()")
	w.Migrate()
	w.SQL("CREATE ROLE " + app + `; GRANT USAGE ON SCHEMA public, pgbridge TO ` + app + `; GRANT ALL ON pgbridge.message_id TO ` + app + `;
		CREATE FUNCTION stay() RETURNS void LANGUAGE plpgsql AS 'BEGIN SET ROLE NONE; END';
		DO $$ BEGIN EXECUTE format('ALTER ROLE %I IN DATABASE %I SET role = ` + app + `', current_user, current_database()); END $$`)
	t.Cleanup(func() { testenv.Exec(t, w.Postgres, "SET ROLE NONE; DROP OWNED BY "+app+"; DROP ROLE "+app) })
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.PinnedConnections, c.Share = 1, 1, 1 })
	is := func(subject string, headers ...string) {
		t.Helper()
		harness.Equal(t, subject+" runs as the login's role, as the login", w.rows(subject, ``, headers...), "[[true,false]]")
	}
	for i := range 3 {
		is("run.who")
		is("run.who", "Nats-Msg-Id", fmt.Sprint(i))
		is("as.alice.run.who")
		is("as.bob.run.read")
		harness.Equal(t, "a script with a role", w.rows("run.other", ``), `[["pg_monitor"]]`)
		is("run.read", "Nats-Msg-Id", fmt.Sprint(i))
		w.Works("run.leave", ``)
	}
	tx := w.begin(``)
	is(tx + ".run.who")
	harness.Equal(t, "a script with a role", w.rows(tx+".run.other", ``), `[["pg_monitor"]]`)
	is(tx + ".run.who")
	w.state("ended", tx+".commit", ``)
}
