package main

import (
	"context"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/example"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Whoever may create operators in the database that the example is put into has none of
// them called.
func TestExampleCallsNothingOfOthers(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, url, `CREATE FUNCTION trap(float8, int) RETURNS float8 LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trap''; END';
		CREATE OPERATOR * (LEFTARG = float8, RIGHTARG = int, FUNCTION = trap)`)
	settings, err := postgres.Parse(url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := example.In(settings)
	if err := e.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.Write(ctx, 10*time.Millisecond)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	testenv.Wait(t, 10*time.Second, "a row", func() bool {
		return testenv.Value[bool](t, url, "SELECT EXISTS (SELECT FROM pgbridge_example.orders)")
	})
}

// No letter of what migrate executes is one that a database could lack.
func TestMigrateInAnotherEncoding(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	const name = "migrate_latin1"
	testenv.Exec(t, pg.URL(), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
	t.Cleanup(func() { testenv.Exec(t, pg.URL(), "DROP DATABASE "+name+" WITH (FORCE)") })
	if r := call(t, nil, "migrate", "--postgres", pg.Server().URL(name)); r.code != exitOK {
		t.Errorf("migrate: %s%s", r.stdout, r.stderr)
	}
}
