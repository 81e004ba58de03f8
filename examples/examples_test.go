// Package examples_test runs the examples as their readers would.
package examples_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestSubscribe(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	e := run(t, bus, build(t, "subscribe"))
	e.awaits(t, "listening")
	database := startBridge(t, bus)
	e.awaits(t, `(?m)^gap \(started\): read everything again$`)
	testenv.Exec(t, database, "SELECT pg_notify('orders', 'hello')")
	e.awaits(t, `(?m)^event hello$`)
}

func TestConsume(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	database := startBridge(t, bus)
	e := run(t, bus, build(t, "consume"))
	e.awaits(t, `(?m)^gap [0-9a-f]{16}\.orders\.gap\.[0-9]+ {"channel":"orders","reason":"started",`)
	testenv.Exec(t, database, "SELECT pg_notify('orders', 'hello')")
	e.awaits(t, `(?m)^event [0-9a-f]{16}\.orders\.\d+\.[0-9a-f]{16} hello$`)
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	database := testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, database, examples.Schema())
	testenv.Exec(t, database, txrunner.MigrationSQL())
	program := build(t, "transfer").Path
	harness.Serve(t, txrunner.Config{ConnString: database, Scripts: "scripts", Requests: bus.Connect(t, nats.PermissionErrOnSubscribe(true))})
	for range 2 { // the second time it has been done
		e := run(t, bus, exec.Command(program, "order-77"))
		e.awaits(t, `(?m)^done: 3 statements$`)
	}
	if got := testenv.Value[string](t, database, "SELECT balance::text FROM account WHERE id = 1"); got != "989.50" {
		t.Errorf("the balance is %s, want 989.50", got)
	}
	testenv.Exec(t, database, "UPDATE account SET balance = 10")
	run(t, bus, exec.Command(program, "order-78")).awaits(t, `refused: sql_error: new row for relation "account" violates`)
}

// example is one that runs.
type example struct {
	cmd    *exec.Cmd
	mu     sync.Mutex // guards output
	output bytes.Buffer
}

func (e *example) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.output.Write(b)
}

func (e *example) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.output.String()
}

// awaits waits until the output matches a pattern.
func (e *example) awaits(t *testing.T, pattern string) {
	t.Helper()
	r := regexp.MustCompile(pattern)
	testenv.Wait(t, harness.Patience, "output "+pattern, func() bool { return r.MatchString(e.String()) })
}

func build(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", program, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return exec.Command(program)
}

// run starts an example; it is killed when the test ends.
func run(t *testing.T, bus *testenv.NATSServer, cmd *exec.Cmd) *example {
	t.Helper()
	return runAt(t, bus.URL(), cmd)
}

// runAt does the same with a way to NATS of its own.
func runAt(t *testing.T, url string, cmd *exec.Cmd) *example {
	t.Helper()
	e := &example{cmd: cmd}
	cmd.Env = append(os.Environ(), "NATS_URL="+url)
	cmd.Stdout, cmd.Stderr = e, e
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s said\n%s", strings.Join(cmd.Args, " "), e)
		}
	})
	return e
}

// startBridge serves the channel orders of a new database, whose URL it
// returns, until the test ends.
func startBridge(t *testing.T, bus *testenv.NATSServer) string {
	t.Helper()
	database := testenv.Postgres(t).NewDatabase(t)
	at := natsconn.Settings{URLs: []string{bus.URL()}}
	events, err := natsconn.Events(at, natsconn.Keeper{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Close)
	b, err := bridge.New(bridge.Config{
		ConnString: database, Events: events,
		Channels: map[string]bridge.Channel{"orders": {Delivery: bridge.DeliveryJetStream}},
		Stream:   bridge.Stream{Create: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	testenv.Wait(t, harness.Patience, "the bridge to publish", func() bool {
		return len(b.Problems()) == 0 && b.Status().State == "publishing"
	})
	return database
}
