package listen

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A session that is ended because it is idle has events missing until the next one
// listens.
func TestSessionHasItsOwnSettings(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, url, `DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = 10000', current_database());
		EXECUTE format('ALTER DATABASE %I SET lock_timeout = 10000', current_database());
		EXECUTE format('ALTER DATABASE %I SET default_transaction_deferrable = on', current_database());
	END $$`)
	targets, err := parse(t, url).Targets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := dialListener(t.Context(), targets[0], "idle")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	limits, err := c.exec("look", "SELECT pg_catalog.current_setting('idle_session_timeout'), pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('transaction_deferrable')")
	if err != nil || limits[0] != "0" || limits[1] != "0" || limits[2] != "off" {
		t.Errorf("the limits are %v (%v), want none, and no waiting for others' transactions", limits, err)
	}
}
