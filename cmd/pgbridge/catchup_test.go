package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// newsroom is a database whose table of news notifies two channels, which replicas serve
// with the script news.missed.
type newsroom struct {
	url, path string // of the database, and of the configuration
	proxy     *testenv.Proxy
	mu        sync.Mutex // guards heard
	heard     []*nats.Msg
}

// newNewsroom makes one. While the table gate has a row the script stops behind row 5, of
// which PostgreSQL has not sent all then.
func newNewsroom(t *testing.T) *newsroom {
	t.Helper()
	bus := testenv.NATS(t)
	n := &newsroom{url: testenv.Postgres(t).NewDatabase(t), proxy: testenv.NewProxy(t, testenv.Postgres(t).Addr())}
	testenv.Exec(t, n.url, "CREATE TABLE news (id int PRIMARY KEY, at timestamptz DEFAULT now()); CREATE TABLE gate ()")
	scripts := t.TempDir()
	if err := os.Mkdir(filepath.Join(scripts, "news"), 0o755); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(scripts, "news", "missed.sql"), `-- timeout: 50s
SELECT rpad(id::text, 9000) FROM news, LATERAL (SELECT pg_sleep(CASE WHEN id > 5 AND EXISTS (SELECT FROM gate) THEN 3600 END)) s
WHERE at >= @since AND at <= @until ORDER BY id;`)
	n.path = configFile(t, fmt.Sprintf(`postgres: {url: %q}
nats: {url: %q}
http: 127.0.0.1:0
scripts: %q
channels: {orders: {catch_up: news.missed}, audit: {catch_up: news.missed, delivery: jetstream}}
`, n.proxy.Reroute(t, n.url), bus.URL(), scripts))
	sub, err := bus.Connect(t).Subscribe("pgbridge.>", func(m *nats.Msg) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.heard = append(n.heard, m)
	})
	if err != nil {
		t.Fatal(err)
	}
	sub.SetPendingLimits(-1, -1)
	return n
}

func (n *newsroom) insert(t *testing.T, first, last int) {
	t.Helper()
	testenv.Exec(t, n.url, `WITH n AS (INSERT INTO news (id) SELECT generate_series($1::int, $2) RETURNING id)
		SELECT pg_notify(channel, id::text) FROM n, unnest('{orders,audit}'::text[]) channel ORDER BY id`, first, last)
}

// outage keeps every replica from PostgreSQL while rows are inserted.
func (n *newsroom) outage(t *testing.T, first, last int) {
	t.Helper()
	n.proxy.Lead("127.0.0.1:1")
	n.proxy.Cut()
	n.insert(t, first, last)
	n.proxy.Lead(testenv.Postgres(t).Addr())
}

// on returns what came for a channel, a row with an R in front and a gap as it is.
func (n *newsroom) on(channel string) (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.heard {
		switch text := strings.TrimSpace(string(m.Data)); {
		case !strings.HasSuffix(m.Subject, "."+channel):
		case m.Header.Get("Pgbridge-Catch-Up") == "true":
			all = append(all, "R"+text)
		default:
			all = append(all, text)
		}
	}
	return all
}

// await waits until both channels have an event or a row.
func (n *newsroom) await(t *testing.T, text string) {
	t.Helper()
	for _, channel := range []string{"orders", "audit"} {
		testenv.Wait(t, time.Minute, text+" on "+channel, func() bool { return slices.Contains(n.on(channel), text) })
	}
}

// awaitGap waits until both channels have a gap behind the start that was caught up with.
func (n *newsroom) awaitGap(t *testing.T) {
	t.Helper()
	for _, channel := range []string{"orders", "audit"} {
		testenv.Wait(t, time.Minute, "a gap of "+channel, func() bool { return slices.ContainsFunc(n.on(channel), caughtUp) })
	}
}

func caughtUp(text string) bool {
	return strings.Contains(text, `"complete":true`) && !strings.Contains(text, `"started"`)
}

// wholeBefore wants these rows in front of the gap that says that they are all.
func (n *newsroom) wholeBefore(t *testing.T, rows ...string) {
	t.Helper()
	for _, channel := range []string{"orders", "audit"} {
		all := n.on(channel)
		gap := slices.IndexFunc(all, caughtUp)
		for _, row := range rows {
			if at := slices.Index(all, row); at < 0 || at > gap {
				t.Errorf("%s: row %s is not in front of the gap: %q", channel, row, all)
			}
		}
	}
}

// A replica that lost PostgreSQL runs the script of the file that the configuration names.
func TestServeCatchesUp(t *testing.T) {
	t.Parallel()
	n := newNewsroom(t)
	c := start(t, "serve", "-c", n.path)
	address := httpAddress(t, c)
	waitReady(t, address)
	n.insert(t, 1, 3)
	n.await(t, "3")
	n.outage(t, 4, 6)
	n.awaitGap(t)
	waitReady(t, address)
	n.insert(t, 7, 7)
	n.await(t, "7")
	n.wholeBefore(t, "R4", "R5", "R6")
	testenv.Wait(t, time.Minute, "both runs of the script to be counted", func() bool {
		_, metrics := get(t, address, "/metrics")
		return strings.Contains(metrics, `pgbridge_catch_ups_total{channel="audit",outcome="complete"} 2`)
	})
	says(t, &c.stderr, `"caught up"`)
}

// A replica that is killed in the middle of the script leaves it to the other one, which
// runs it again.
func TestKilledWhileCatchingUp(t *testing.T) {
	t.Parallel()
	n := newNewsroom(t)
	replicas := map[string]*child{}
	for _, name := range []string{"one", "two"} {
		replicas[name] = start(t, "serve", "-c", n.path, "--set", "postgres.application_name="+name)
		address := httpAddress(t, replicas[name])
		testenv.Wait(t, time.Minute, "replica "+name+" to be ready", func() bool {
			code, _ := get(t, address, "/readyz")
			return code == http.StatusOK
		})
	}
	n.insert(t, 1, 3)
	n.await(t, "3")
	testenv.Exec(t, n.url, "INSERT INTO gate DEFAULT VALUES")
	n.outage(t, 4, 6)
	n.await(t, "R4")
	runs := testenv.Value[string](t, n.url, "SELECT max(application_name) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")
	if replicas[runs] == nil {
		t.Fatalf("%q runs the script", runs)
	}
	replicas[runs].signal(t, syscall.SIGKILL)
	testenv.Exec(t, n.url, "DELETE FROM gate")
	n.awaitGap(t)
	n.insert(t, 7, 7)
	n.await(t, "7")
	for _, channel := range []string{"orders", "audit"} {
		all := n.on(channel)
		for _, row := range []string{"R4", "R5", "R6"} {
			if !slices.Contains(all, row) {
				t.Errorf("%s: row %s is missing: %q", channel, row, all)
			}
		}
		for _, live := range []string{"1", "2", "3", "7"} {
			if count := len(slices.DeleteFunc(slices.Clone(all), func(text string) bool { return text != live })); count != 1 {
				t.Errorf("%s: event %s came %d times: %q", channel, live, count, all)
			}
		}
	}
}
