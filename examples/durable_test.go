package examples_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestExactlyOnce kills the consumer over and over; what it keeps is in the end
// what was bought.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	database := testenv.Postgres(t).NewDatabase(t)
	for _, file := range []string{"outbox/after.sql", "exactlyonce/schema.sql"} {
		sql, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		testenv.Exec(t, database, string(sql))
	}
	serveDurable(t, bus, database)
	program := build(t, "exactlyonce").Path
	bought := 0
	for round := range 5 {
		for range 20 {
			bought++
			testenv.Exec(t, database, "SELECT buy('Ada', $1)", bought)
		}
		awaits := fmt.Sprintf(`(?m)^applied %d$`, 1+20*round+10) // in the midst of them
		cmd := consumer(program, database)
		run(t, bus, cmd).awaits(t, awaits)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	e := run(t, bus, consumer(program, database))
	testenv.Wait(t, harness.Patience, "everything to be applied", func() bool {
		return testenv.Value[int64](t, database, "SELECT coalesce(max(sequence), 0) FROM applied") == int64(1+bought)
	})
	if got, want := testenv.Value[string](t, database, "SELECT total::text FROM revenue"), testenv.Value[string](t, database, "SELECT sum(total)::text FROM purchase"); got != want {
		t.Errorf("the consumer has %s, %s was bought\n%s", got, want, e)
	}
}

func consumer(program, database string) *exec.Cmd {
	return exec.Command("env", "DATABASE_URL="+database, program)
}

// The outbox that the durable channel takes the place of works, too.
func TestOutbox(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t).NewDatabase(t)
	sql, err := os.ReadFile("outbox/before.sql")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, database, string(sql))
	testenv.Exec(t, database, "SELECT buy('Ada', 9.5)")
	if got := testenv.Value[string](t, database, "SELECT payload ->> 'total' FROM outbox"); got != "9.50" {
		t.Errorf("the outbox has %s, want 9.50", got)
	}
}

// serveDurable serves the channel purchases until the test ends, and waits until
// its stream is there.
func serveDurable(t *testing.T, bus *testenv.NATSServer, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := bridge.Migrate(t.Context(), conn, 0); err != nil {
		t.Fatal(err)
	}
	events, err := natsconn.Events(natsconn.Settings{URLs: []string{bus.URL()}}, natsconn.Keeper{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Close)
	b, err := bridge.New(bridge.Config{
		ConnString: database, Events: events, Channels: map[string]bridge.Channel{"purchases": {Durable: true}},
		Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, nil, b.Run)
	testenv.Wait(t, harness.Patience, "the first gap", func() bool {
		return testenv.Value[bool](t, database, "SELECT coalesce(max(last_sequence), 0) = 1 FROM pgbridge.position")
	})
}
