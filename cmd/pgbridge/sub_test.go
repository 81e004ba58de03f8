package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func publish(t *testing.T, nc *nats.Conn, subject, payload string, header nats.Header) {
	t.Helper()
	if err := nc.PublishMsg(&nats.Msg{Subject: subject, Data: []byte(payload), Header: header}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestSub(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	nc := bus.Connect(t)
	c := start(t, "sub", "--nats", bus.URL(), "--count", "3")
	says(t, &c.stderr, "subscribed to pgbridge.event.> pgbridge.gap.>")
	publish(t, nc, "pgbridge.event.a%2Eb", "line\n\x1b[2J", nats.Header{"Pgbridge-Channel": {"a.b"}, "Other": {"x"}})
	publish(t, nc, "pgbridge.gap.orders", `{"reason": "started"}`, nil)
	publish(t, nc, "other", "not for us", nil)
	publish(t, nc, "pgbridge.event.orders", "Größe", nats.Header{"Nats-Msg-Id": {"1"}, "Pgbridge-Id": {"1"}})
	if code := c.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	want := `pgbridge.event.a%2Eb  Pgbridge-Channel=a.b  line\n\x1b[2J
pgbridge.gap.orders  {"reason": "started"}
pgbridge.event.orders  Pgbridge-Id=1  Größe
`
	if got := c.stdout.String(); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

func TestSubPrintsJSON(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	nc := bus.Connect(t)
	path := configFile(t, "nats: {url: '"+bus.URL()+"'}\nprefix: my.bus\nchannels: {a: {subject: 'x.{payload.y}'}}\n")
	c := start(t, "sub", "-c", path, "--json")
	says(t, &c.stderr, "subscribed to my.bus.event.> my.bus.gap.> x.*")
	publish(t, nc, "x.1", `{"id": 7, "a": "<b>"}`, nats.Header{"K": {"v"}})
	publish(t, nc, "my.bus.event.a", "plain", nil)
	testenv.Wait(t, timeLimit, "two lines", func() bool { return strings.Count(c.stdout.String(), "\n") == 2 })
	c.signal(t, syscall.SIGTERM)
	if code := c.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	want := []map[string]any{
		{"subject": "x.1", "headers": map[string]any{"K": []any{"v"}}, "payload": map[string]any{"id": 7.0, "a": "<b>"}},
		{"subject": "my.bus.event.a", "payload": "plain"},
	}
	for i, line := range strings.Split(strings.TrimSpace(c.stdout.String()), "\n") {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil || !reflect.DeepEqual(got, want[i]) {
			t.Errorf("line %s (%v), want %v", line, err, want[i])
		}
	}
}

func TestSubTakesTheServerFromTheEnvironment(t *testing.T) {
	t.Parallel()
	r := call(t, []string{"PGBRIDGE_NATS_URL=nats://127.0.0.1:1"}, "sub")
	if r.code != exitFailed || !strings.Contains(r.stderr, "connect to NATS") {
		t.Errorf("exit code %d, %q; want 1 for a server that is away", r.code, r.stderr)
	}
	r = call(t, []string{"PGBRIDGE_NATS_URL=ftp://127.0.0.1:1"}, "sub")
	if r.code != exitUsage || !strings.Contains(r.stderr, "PGBRIDGE_NATS_URL: nats.url: ") {
		t.Errorf("exit code %d, %q; want 2 for a faulty URL", r.code, r.stderr)
	}
}
