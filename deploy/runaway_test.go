package deploy_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A function can catch that it is cancelled, and go on for ever. pgbridge gives up the
// connection; the role's setting has PostgreSQL notice that.
func TestARunawayFunctionEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	testenv.Exec(t, pg.URL(), "CREATE DATABASE app TEMPLATE template0")
	app := pg.Server().URL("app")
	testenv.Exec(t, app, file(t, "role.sql"))
	testenv.Exec(t, app, `CREATE FUNCTION runaway() RETURNS void LANGUAGE plpgsql AS $$
		BEGIN LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN END; END LOOP; END $$`)
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://pgbridge:change%%20me@%s/app?sslmode=disable", pg.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := conn.Exec(limited, "SELECT runaway()"); err == nil || !conn.IsClosed() {
		t.Fatalf("runaway() = %v, want a connection that was given up", err)
	}
	testenv.Wait(t, 20*time.Second, "the runaway function to end", func() bool {
		return testenv.Value[int](t, app, "SELECT count(*)::int FROM pg_stat_activity WHERE usename = 'pgbridge'") == 0
	})
}
