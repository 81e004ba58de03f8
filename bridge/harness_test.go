package bridge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

const patience = 60 * time.Second // for what has to happen

// running is a bridge under test.
type running struct {
	*bridge.Bridge
	logs *observer.ObservedLogs
	stop func() error // and wait; the first call counts
}

// connect opens a connection as the bridge needs it.
func connect(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	opts = append([]nats.Option{
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(50 * time.Millisecond), nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
		nats.PermissionErrOnSubscribe(true), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, opts...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// subscribed is a subscription that the server knows of.
func subscribed(t *testing.T, url, subject string) *nats.Subscription {
	t.Helper()
	nc := connect(t, url)
	sub, err := nc.SubscribeSync(subject)
	if err == nil {
		err = nc.FlushTimeout(patience)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// launch starts a bridge, the hooks first; it is stopped when the test ends.
func launch(t testing.TB, config bridge.Config, hooks ...func(*bridge.Bridge)) *running {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	config.Logger = zap.New(core)
	b, err := bridge.New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, hook := range hooks {
		hook(b)
	}
	return &running{Bridge: b, logs: logs, stop: testenv.Run(t, logs, b.Run)}
}

// ready waits until the bridge is ready and publishing.
func (r *running) ready(t testing.TB) *running {
	t.Helper()
	r.is(t, "publishing")
	testenv.Wait(t, patience, "the bridge to be ready", func() bool { return len(r.Problems()) == 0 })
	return r
}

func (r *running) is(t testing.TB, state string) {
	t.Helper()
	testenv.Wait(t, patience, "the bridge to be "+state, func() bool { return r.Status().State == state })
}

// logged waits for a line at level warn or above that holds all the words.
func (r *running) logged(t testing.TB, words ...string) {
	t.Helper()
	testenv.Wait(t, patience, fmt.Sprintf("a log line with %q", words), func() bool {
		for _, e := range r.logs.All() {
			line := fmt.Sprint(e.Message, e.ContextMap())
			all := e.Level >= zap.WarnLevel
			for _, w := range words {
				all = all && strings.Contains(line, w)
			}
			if all {
				return true
			}
		}
		return false
	})
}

// world is a database, a NATS server, and a prefix of its own.
type world struct {
	pg     string // URL
	nats   string // URL
	prefix string
	heard  *audience
}

func newWorld(t testing.TB) *world {
	n := testenv.NATS(t)
	w := &world{pg: testenv.Postgres(t).NewDatabase(t), nats: n.URL(), prefix: "pgbridge"}
	w.heard = listen(t, w.nats, w.prefix)
	return w
}

func (w *world) config(t testing.TB, channels map[string]bridge.Channel) bridge.Config {
	return bridge.Config{
		ConnString: w.pg, Events: connect(t, w.nats), Requests: connect(t, w.nats),
		Prefix: w.prefix, Channels: channels, Stream: bridge.Stream{Create: true}, StopGrace: 10 * time.Second,
	}
}

// audience hears everything under a prefix, in order, and across reconnects of
// its own; it is on no link that a test breaks.
type audience struct {
	prefix string
	mu     sync.Mutex
	msgs   []*nats.Msg
}

func listen(t testing.TB, url, prefix string, more ...string) *audience {
	t.Helper()
	a := &audience{prefix: prefix}
	nc := connect(t, url)
	for _, subject := range append([]string{prefix + ".>"}, more...) {
		sub, err := nc.Subscribe(subject, a.add)
		if err != nil {
			t.Fatal(err)
		}
		sub.SetPendingLimits(-1, -1)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *audience) add(m *nats.Msg) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.msgs = append(a.msgs, m)
}

func (a *audience) all() []*nats.Msg {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.msgs[:len(a.msgs):len(a.msgs)]
}

// events returns the bodies on a subject so far.
func (a *audience) events(subject string) []string {
	var bodies []string
	for _, m := range a.all() {
		if m.Subject == subject {
			bodies = append(bodies, string(m.Data))
		}
	}
	return bodies
}

// gaps returns the gap records of a channel's token so far.
func (a *audience) gaps(t testing.TB, token string) []api.Gap {
	t.Helper()
	var gaps []api.Gap
	for _, body := range a.events(a.prefix + ".gap." + token) {
		var g api.Gap
		d := json.NewDecoder(strings.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&g); err != nil {
			t.Fatalf("gap %s: %v", body, err)
		}
		gaps = append(gaps, g)
	}
	return gaps
}

func (a *audience) awaitEvent(t testing.TB, subject, body string) {
	t.Helper()
	testenv.Wait(t, patience, "the event "+body+" on "+subject, func() bool {
		for _, m := range a.all() {
			if m.Subject == subject && string(m.Data) == body {
				return true
			}
		}
		return false
	})
}

func (a *audience) awaitGap(t testing.TB, token string, reason api.Reason) api.Gap {
	t.Helper()
	var found api.Gap
	testenv.Wait(t, patience, fmt.Sprintf("a gap %s of %s", reason, token), func() bool {
		for _, g := range a.gaps(t, token) {
			if g.Reason == reason {
				found = g
				return true
			}
		}
		return false
	})
	return found
}

// commit is one notification that was committed: the payload, and moments of
// PostgreSQL's clock just before and just after the commit.
type commit struct {
	payload       string
	before, after time.Time
}

// writer commits numbered notifications one after the other, so their order is
// the commit order.
type writer struct {
	conn    *pgx.Conn
	channel string
	commits []commit
}

func newWriter(t testing.TB, url, channel string) *writer {
	t.Helper()
	w := &writer{channel: channel}
	w.connect(t, url)
	return w
}

func (w *writer) connect(t testing.TB, url string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	w.conn = conn
}

// write commits n notifications, size bytes each at least, per to a transaction.
func (w *writer) write(t testing.TB, n, per, size int) {
	t.Helper()
	for n > 0 {
		k := min(n, per)
		if err := w.transaction(k, size); err != nil {
			t.Fatal(err)
		}
		n -= k
	}
}

func (w *writer) transaction(k, size int) error {
	ctx := context.Background()
	payloads := make([]string, k)
	for i := range payloads {
		payloads[i] = fmt.Sprintf("%d-", len(w.commits)+i)
		if pad := size - len(payloads[i]); pad > 0 {
			payloads[i] += strings.Repeat("x", pad)
		}
	}
	var before, after time.Time
	batch := &pgx.Batch{}
	err := pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT pg_notify($1, p) FROM unnest($2::text[]) WITH ORDINALITY u(p, n) ORDER BY n", w.channel, payloads)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&before)
	})
	if err != nil {
		return err
	}
	batch.Queue("SELECT clock_timestamp()").QueryRow(func(row pgx.Row) error { return row.Scan(&after) })
	if err := w.conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	for _, p := range payloads {
		w.commits = append(w.commits, commit{p, before, after})
	}
	return nil
}

// judge compares what was committed with what arrived, item by item: nothing
// repeated, nothing reordered, nothing missing outside an announced gap.
func judge(t testing.TB, commits []commit, arrived []string, gaps []api.Gap) (missing int) {
	t.Helper()
	position := make(map[string]int, len(commits))
	for i, c := range commits {
		position[c.payload] = i
	}
	seen := make([]bool, len(commits))
	last := -1
	for _, body := range arrived {
		i, known := position[body]
		switch {
		case !known:
			t.Fatalf("an event that was never committed: %.80q", body)
		case seen[i]:
			t.Fatalf("event %d was repeated", i)
		case i < last:
			t.Fatalf("event %d came after event %d", i, last)
		}
		seen[i], last = true, i
	}
	for i, c := range commits {
		if seen[i] {
			continue
		}
		missing++
		if !covered(c, gaps) {
			t.Fatalf("event %d, committed between %s and %s, is missing outside any gap: %s", i, c.before, c.after, show(gaps))
		}
	}
	return missing
}

func covered(c commit, gaps []api.Gap) bool {
	for _, g := range gaps {
		if (g.Since == nil || !c.after.Before(*g.Since)) && !c.before.After(g.Until) {
			return true
		}
	}
	return false
}

func show(gaps []api.Gap) string {
	b, _ := json.Marshal(gaps)
	return string(b)
}
