// Package harness is what the tests of scripts, transactions, cursors, copies
// and examples have in common: a world of real servers with a runner and a
// client in it, and replies as a client reads them. What is in a reply is
// written down here once more, apart from the program's own structs, so that a
// test fails when the words of the wire change.
package harness

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// Patience is how long a test waits for what has to happen.
const Patience = 60 * time.Second

// World is a database, a NATS server, a folder of scripts and a client.
type World struct {
	T        testing.TB
	Postgres string // URL of the database
	NATS     *testenv.NATSServer
	Folder   string // of scripts
	Client   *nats.Conn
}

// New starts a world with these scripts, by their paths without .sql; hooks
// change the NATS server's options.
func New(t testing.TB, scripts map[string]string, hooks ...func(*server.Options)) *World {
	t.Helper()
	w := &World{T: t, Postgres: testenv.Postgres(t).NewDatabase(t), NATS: testenv.NATS(t, hooks...), Folder: t.TempDir()}
	for name, text := range scripts {
		w.Write(name, text)
	}
	w.Client = w.NATS.Connect(t, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	return w
}

// Write puts a script into the folder, at once as a whole; name is its path
// without .sql.
func (w *World) Write(name, text string) {
	w.T.Helper()
	path := filepath.Join(w.Folder, name+".sql")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.T.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		w.T.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.T.Fatal(err)
	}
}

// SQL executes statements in the database, on a connection of their own.
func (w *World) SQL(sql string) {
	w.T.Helper()
	testenv.Exec(w.T, w.Postgres, sql)
}

// Value returns the only value of a query.
func Value[T any](w *World, sql string, args ...any) T {
	w.T.Helper()
	return testenv.Value[T](w.T, w.Postgres, sql, args...)
}

// Migrate makes the schema that message ids and jobs need.
func (w *World) Migrate() {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.Postgres)
	if err != nil {
		w.T.Fatal(err)
	}
	defer conn.Close(ctx)
	for range 2 { // the second time changes nothing
		if err := txrunner.Migrate(ctx, conn); err != nil {
			w.T.Fatal(err)
		}
	}
}

// Requests connects to NATS as a program that serves requests does.
func Requests(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.PermissionErrOnSubscribe(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(20*time.Millisecond), nats.PingInterval(time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Config serves the world's scripts.
func (w *World) Config() txrunner.Config {
	w.T.Helper()
	return txrunner.Config{
		ConnString: w.Postgres, Scripts: w.Folder, ScriptsPoll: -1, StopGrace: 10 * time.Second,
		Requests: Requests(w.T, w.NATS.URL()), Transactions: Requests(w.T, w.NATS.URL()),
	}
}

// Serve starts a runner of the world's scripts and waits until it is ready.
func (w *World) Serve(changes ...func(*txrunner.Config)) *Running {
	w.T.Helper()
	config := w.Config()
	for _, change := range changes {
		change(&config)
	}
	return Serve(w.T, config)
}

// Running is a runner under test. It is stopped when the test ends.
type Running struct {
	*txrunner.Runner
	Logs *observer.ObservedLogs
	Stop func() error // and wait; the first call counts
}

// Serve starts a runner and waits until it is ready. A logger of its own takes
// the place of the configuration's.
func Serve(t testing.TB, config txrunner.Config) *Running {
	t.Helper()
	r := Launch(t, config)
	testenv.Wait(t, Patience, "the runner to be ready", func() bool { return len(r.Problems()) == 0 })
	return r
}

// Launch starts a runner that need not become ready.
func Launch(t testing.TB, config txrunner.Config) *Running {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	config.Logger = zap.New(core)
	runner, err := txrunner.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return &Running{Runner: runner, Logs: logs, Stop: testenv.Run(t, logs, runner.Run)}
}

// Busy counts the backends of the database that are at work or in a transaction.
func (w *World) Busy() int {
	w.T.Helper()
	return Value[int](w, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database()
		AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND (state <> 'idle' OR xact_start IS NOT NULL)`)
}

// WantIdle waits until there are none.
func (w *World) WantIdle() {
	w.T.Helper()
	testenv.Wait(w.T, Patience, "every transaction to end", func() bool { return w.Busy() == 0 })
}

// Equal reports an error if two values differ.
func Equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}
