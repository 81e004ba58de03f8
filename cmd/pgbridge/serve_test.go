package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// bound is an address that is taken as long as the test runs.
func bound(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// httpAddress waits for the address that the child's web server got.
func httpAddress(t *testing.T, c *child) string {
	t.Helper()
	says(t, &c.stderr, `"http listens"`)
	for line := range strings.Lines(c.stderr.String()) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "http listens" {
			return entry.Address
		}
	}
	t.Fatalf("no address in %s", &c.stderr)
	return ""
}

// get returns the code and body of a page of the child's.
func get(t *testing.T, address, path string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// waitReady waits until the child is ready and is the replica that publishes.
func waitReady(t *testing.T, address string) {
	t.Helper()
	var last string
	testenv.Wait(t, 30*time.Second, "readiness", func() bool {
		code, body := get(t, address, "/readyz")
		last = body
		return code == http.StatusOK && strings.Contains(body, `"state":"publishing"`)
	})
	if !strings.Contains(last, `"ready":true`) || !strings.Contains(last, `"problems":[]`) {
		t.Errorf("/readyz says %s", last)
	}
}

func subscribed(t *testing.T, nc *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err == nil {
		err = nc.FlushTimeout(5 * time.Second)
	}
	if err != nil {
		t.Fatalf("subscribe %s: %v", subject, err)
	}
	return sub
}

func next(t *testing.T, sub *nats.Subscription, payload string) {
	t.Helper()
	m, err := sub.NextMsg(15 * time.Second)
	if err != nil {
		t.Fatalf("waiting for %q on %s: %v", payload, sub.Subject, err)
	}
	if string(m.Data) != payload {
		t.Errorf("%s: %q, want %q", m.Subject, m.Data, payload)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	url, bus := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t)
	nc := bus.Connect(t)
	path := configFile(t, fmt.Sprintf("postgres: {url: %q}\nnats: {url: %q}\nhttp: 127.0.0.1:0\nchannels: {orders: {}}\n", url, bus.URL()))
	orders, audit := subscribed(t, nc, "pgbridge.event.orders"), subscribed(t, nc, "pgbridge.event.audit")

	c := start(t, "serve", "-c", path)
	address := httpAddress(t, c)
	waitReady(t, address)
	testenv.Exec(t, url, "SELECT pg_notify('orders', 'one')")
	next(t, orders, "one")

	for path, want := range map[string]string{"/healthz": "ok", "/metrics": "go_goroutines", "/readyz": `"status"`} {
		if code, body := get(t, address, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %q in it", path, code, body, want)
		}
	}
	if _, body := get(t, address, "/metrics"); !strings.Contains(body, "pgbridge_") {
		t.Error("/metrics holds nothing of the bridge's")
	}

	if os.Getenv("GOMAXPROCS") == "" {
		testenv.Wait(t, 30*time.Second, "one processor, which is enough", func() bool {
			_, body := get(t, address, "/metrics")
			return strings.Contains(body, "go_sched_gomaxprocs_threads 1\n")
		})
	}

	rewrite(t, path, fmt.Sprintf("postgres: {url: %q}\nnats: {url: %q}\nhttp: 127.0.0.1:0\nchannels: {orders: {}, audit: {}}\nstop: {grace: 5s}\n", url, bus.URL()))
	c.signal(t, syscall.SIGHUP)
	says(t, &c.stderr, "configuration reloaded")
	says(t, &c.stderr, `"key":"stop.grace"`)
	waitReady(t, address)
	testenv.Wait(t, 15*time.Second, "events of the new channel", func() bool {
		testenv.Exec(t, url, "SELECT pg_notify('audit', 'two')")
		m, err := audit.NextMsg(200 * time.Millisecond)
		return err == nil && string(m.Data) == "two"
	})
	rewrite(t, path, "channels: {orders: {what: x}}\n")
	says(t, &c.stderr, "channels.orders.what: unknown key") // found without a hangup
	testenv.Exec(t, url, "SELECT pg_notify('orders', 'three')")
	next(t, orders, "three")
	_, metrics := get(t, address, "/metrics")
	for _, series := range []string{`pgbridge_events_published_total{channel="orders"}`, "pgbridge_channels 2", `pgbridge_config_reloads_total{outcome="good"} 1`, "pgbridge_config_last_reload_successful 0"} {
		if !strings.Contains(metrics, series) {
			t.Errorf("/metrics holds no %s", series)
		}
	}

	c.signal(t, syscall.SIGTERM)
	if code := c.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if c.stdout.String() != "" {
		t.Errorf("stdout holds %q", &c.stdout)
	}
}

func TestServeWaitsForItsServers(t *testing.T) {
	t.Parallel()
	pg, bus := testenv.DedicatedPostgres(t, testenv.PGOptions{}), testenv.NATS(t)
	url := pg.NewDatabase(t)
	pg.Stop(t)
	bus.Stop(t)
	c := start(t, "serve", "--postgres", url, "--nats", bus.URL(), "--channel", "orders", "--set", "http=127.0.0.1:0")
	address := httpAddress(t, c)
	if code, body := get(t, address, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, `"ready":false`) {
		t.Errorf("/readyz: %d %s, want 503", code, body)
	}
	if code, _ := get(t, address, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d, want 200", code)
	}
	says(t, &c.stderr, "NATS is away")
	bus.Start(t)
	pg.Start(t)
	waitReady(t, address)
	orders := subscribed(t, bus.Connect(t), "pgbridge.event.orders")
	testenv.Exec(t, url, "SELECT pg_notify('orders', 'one')")
	next(t, orders, "one")
	c.signal(t, syscall.SIGINT)
	if code := c.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestServeWithEmbeddedNATS(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	path := configFile(t, fmt.Sprintf(`
postgres: {url: %q}
nats: {embedded: true, url: "nats://127.0.0.1:0"}
http: 127.0.0.1:0
channels: {orders: {delivery: jetstream}}
`, url))
	c := start(t, "serve", "-c", path)
	waitReady(t, httpAddress(t, c))
	client := embeddedURL(t, c)
	nc, err := nats.Connect(client)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	orders := subscribed(t, nc, "pgbridge.event.orders")
	testenv.Exec(t, url, "SELECT pg_notify('orders', 'one')")
	next(t, orders, "one")

	second := start(t, "serve", "-c", path, "--nats", client, "--set", "nats.store_dir="+t.TempDir())
	if code := second.code(t); code != exitFailed || !strings.Contains(second.stderr.String(), "address already in use") {
		t.Errorf("on a taken port: exit code %d, %s", code, &second.stderr)
	}
	c.signal(t, syscall.SIGTERM)
	if code := c.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A hangup while the process is still reading its scripts is one as any other.
func TestHangupAtTheStart(t *testing.T) {
	t.Parallel()
	scripts := t.TempDir()
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(scripts, fmt.Sprintf("s%d.sql", i)), []byte(strings.Repeat("SELECT 1;\n", 20)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := start(t, "serve", "-c", configFile(t, fmt.Sprintf("postgres: {url: %q}\nnats: {embedded: true, url: nats://127.0.0.1:0}\nscripts: %s\nhttp: off\n",
		testenv.Postgres(t).NewDatabase(t), scripts)))
	says(t, &c.stderr, "embedded NATS server listens") // before the scripts are read
	c.signal(t, syscall.SIGHUP)
	says(t, &c.stderr, "configuration reloaded")
}

func embeddedURL(t *testing.T, c *child) string {
	t.Helper()
	for line := range strings.Lines(c.stderr.String()) {
		var entry struct{ Msg, URL string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "embedded NATS server listens" {
			return entry.URL
		}
	}
	t.Fatalf("no URL in %s", &c.stderr)
	return ""
}

func TestServeEndsWithAClearLine(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	open, closed := testenv.NATS(t), testenv.NATS(t, func(o *server.Options) { o.Username, o.Password = "u", "right" })
	taken := bound(t)
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"faulty file", []string{"-c", configFile(t, "prefix: [")}, exitUsage, "pgbridge.yaml: "},
		{"no file", []string{"-c", "/nowhere/pgbridge.yaml"}, exitUsage, "/nowhere/pgbridge.yaml"},
		{"no database", nil, exitUsage, "postgres.url: missing"},
		{"taken port", []string{"--postgres", url, "--nats", open.URL(), "--set", "http=" + taken}, exitFailed, "address already in use"},
		{"refused by NATS", []string{"--postgres", url, "--nats", closed.URL(), "--set", "http=off"}, exitFailed, "NATS refused the credentials"},
		{"refused by PostgreSQL", []string{"--postgres", strings.Replace(url, "@", "x@", 1), "--nats", open.URL(), "--set", "http=off"}, exitFailed, "28P01"},
		{"missing credentials", []string{"--postgres", url, "--nats", open.URL(), "--set", "nats.creds=/nowhere/creds", "--set", "http=off"}, exitUsage, "/nowhere/creds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := start(t, append([]string{"serve"}, tt.args...)...)
			if code := c.code(t); code != tt.code || !strings.Contains(c.stderr.String(), tt.want) {
				t.Errorf("exit code %d, want %d and %q in\n%s", code, tt.code, tt.want, &c.stderr)
			}
		})
	}
}

func TestSecondSignalKills(t *testing.T) {
	t.Parallel()
	url, bus := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t)
	c := start(t, "serve", "--postgres", url, "--nats", bus.URL(), "--channel", "orders", "--set", "http=127.0.0.1:0", "--set", "stop.grace=10m")
	address := httpAddress(t, c)
	waitReady(t, address)
	bus.Stop(t)
	testenv.Exec(t, url, "SELECT pg_notify('orders', 'stuck')")
	testenv.Wait(t, timeLimit, "a queued event", func() bool {
		_, body := get(t, address, "/readyz")
		return !strings.Contains(body, `"core":0`)
	})
	c.signal(t, syscall.SIGTERM)
	testenv.Wait(t, timeLimit, "the second signal to kill", func() bool {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails once it has ended
		select {
		case <-c.exited:
			return true
		default:
			return false
		}
	})
	if code := c.code(t); code != -1 {
		t.Errorf("exit code %d, want death by a signal", code)
	}
}

// A frozen NATS takes nothing any more: an event that waits for it is lost with the
// grace, and the process ends as it should.
func TestStopWhileNATSIsFrozen(t *testing.T) {
	t.Parallel()
	url, bus := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t)
	link := testenv.NewProxy(t, bus.Addr())
	c := start(t, "serve", "--postgres", url, "--nats", link.Reroute(t, bus.URL()), "--channel", "orders",
		"--set", "http=127.0.0.1:0", "--set", "stop.grace=2s", "--set", "scripts="+t.TempDir())
	address := httpAddress(t, c)
	waitReady(t, address)
	link.Freeze()
	testenv.Exec(t, url, "SELECT pg_notify('orders', 'waits')")
	testenv.Wait(t, 30*time.Second, "the event to wait", func() bool {
		_, body := get(t, address, "/metrics")
		return strings.Contains(body, `pgbridge_events_received_total{channel="orders"} 1`)
	})
	c.signal(t, syscall.SIGTERM)
	if code := c.code(t); code != exitOK || strings.Contains(c.stderr.String(), "panic") {
		t.Errorf("exit code %d, want %d:\n%s", code, exitOK, &c.stderr)
	}
}
