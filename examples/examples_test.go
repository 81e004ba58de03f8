// Package examples_test runs the examples as their readers would.
package examples_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const patience = 60 * time.Second

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
	e.awaits(t, `(?m)^gap [0-9a-f]{16}\.orders\.gap\.1 {"channel":"orders","reason":"started",`)
	testenv.Exec(t, database, "SELECT pg_notify('orders', 'hello')")
	e.awaits(t, `(?m)^event [0-9a-f]{16}\.orders\.\d+\.[0-9a-f]{16} hello$`)
}

// example is one that runs.
type example struct {
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
	testenv.Wait(t, patience, "output "+pattern, func() bool { return r.MatchString(e.String()) })
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
	e := &example{}
	cmd.Env = append(os.Environ(), "NATS_URL="+bus.URL())
	cmd.Stdout, cmd.Stderr = e, e
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
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
	testenv.Wait(t, patience, "the bridge to publish", func() bool {
		return len(b.Problems()) == 0 && b.Status().State == "publishing"
	})
	return database
}
