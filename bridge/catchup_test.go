package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// newsWorld has a table whose rows are notified on a channel of each delivery as they
// are inserted.
type newsWorld struct {
	*world
	server natsServer
	proxy  *testenv.Proxy // to PostgreSQL
}

func newNewsWorld(t *testing.T) *newsWorld {
	t.Helper()
	server := testenv.NATS(t)
	w := &newsWorld{world: worldWith(t, server), server: server, proxy: testenv.NewProxy(t, testenv.Postgres(t).Addr())}
	testenv.Exec(t, w.pg, "CREATE TABLE news (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")
	return w
}

const insertNews = `WITH n AS (INSERT INTO news (id) SELECT generate_series($1::int, $2) RETURNING id)
	SELECT pg_notify(channel, id::text) FROM n, unnest('{orders,audit}'::text[]) channel ORDER BY id`

// insert commits rows with these numbers.
func (w *newsWorld) insert(t *testing.T, first, last int) {
	t.Helper()
	testenv.Exec(t, w.pg, insertNews, first, last)
}

// missed is the script.
func (w *newsWorld) missed(ctx context.Context, in bridge.Window, row func(context.Context, []byte) error) error {
	conn, err := pgx.Connect(ctx, w.pg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, "SELECT id::text FROM news WHERE at >= $1 AND at <= $2 ORDER BY id", nullable(in.Since), in.Until)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(ctx, rows.RawValues()[0]); err != nil {
			return err
		}
	}
	return rows.Err()
}

func nullable(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

var newsChannels = map[string]bridge.Channel{
	"orders": {CatchUp: "missed.orders"}, "audit": {CatchUp: "missed.audit", Delivery: bridge.DeliveryJetStream},
}

// reads is a bridge's configuration, through the world's proxy.
func (w *newsWorld) reads(t *testing.T, run bridge.CatchUp) bridge.Config {
	c := w.config(t, newsChannels)
	c.ConnString, c.CatchUp = w.proxy.Reroute(t, w.pg), run
	return c
}

// nobody is an address that nobody listens at.
const nobody = "127.0.0.1:1"

// outage keeps a bridge from PostgreSQL while something is done, and until it has noticed.
func (w *newsWorld) outage(t *testing.T, r *running, do func()) {
	t.Helper()
	w.proxy.Lead(nobody)
	w.proxy.Cut()
	do()
	r.hasProblem(t, "listener")
	w.proxy.Lead(testenv.Postgres(t).Addr())
}

// on returns what came for a channel: in core NATS as it was heard, else as it is stored.
func (w *newsWorld) on(t *testing.T, channel string) []*nats.Msg {
	t.Helper()
	all := w.heard.all()
	if channel == "audit" {
		all = w.messages(t)
	}
	return slices.DeleteFunc(slices.Clone(all), func(m *nats.Msg) bool { return !strings.HasSuffix(m.Subject, "."+channel) })
}

// arrives waits for a live event.
func (w *newsWorld) arrives(t *testing.T, channel string, id int) {
	t.Helper()
	testenv.Wait(t, patience, fmt.Sprintf("event %d of %s", id, channel), func() bool {
		return slices.ContainsFunc(w.on(t, channel), func(m *nats.Msg) bool {
			return string(m.Data) == fmt.Sprint(id) && m.Header.Get("Pgbridge-Catch-Up") == ""
		})
	})
}

// gapOf returns the only gap with this reason, and where it stands.
func gapOf(t *testing.T, all []*nats.Msg, reason api.Reason) (g api.Gap, at int) {
	t.Helper()
	a, n := audience{prefix: "pgbridge", msgs: all}, 0
	for _, token := range []string{"orders", "audit"} {
		for _, gap := range a.gaps(t, token) {
			if gap.Reason == reason {
				g, n = gap, n+1
			}
		}
	}
	if n != 1 {
		t.Fatalf("%d gaps %s, want 1", n, reason)
	}
	for i, m := range all {
		if strings.Contains(m.Subject, ".gap.") && strings.Contains(string(m.Data), string(reason)) {
			at = i
		}
	}
	return g, at
}

// rowsIn returns the rows of scripts among messages.
func rowsIn(all []*nats.Msg) (ids []string) {
	for _, m := range all {
		if m.Header.Get("Pgbridge-Catch-Up") == "true" {
			ids = append(ids, string(m.Data))
		}
	}
	return ids
}

// What commits while no replica listens comes from the script: in front of the gap, which
// says so, and behind what was live before; then live events go on. The row of a
// transaction that was long under way when the loss began is among them.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	w := newNewsWorld(t)
	ctx := context.Background()
	long, err := pgx.Connect(ctx, w.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close(ctx)
	var began time.Time
	if _, err := long.Exec(ctx, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := long.QueryRow(ctx, "SELECT now()").Scan(&began); err != nil {
		t.Fatal(err)
	}
	r := launch(t, w.reads(t, w.missed)).ready(t)
	w.insert(t, 1, 3)
	for _, channel := range []string{"orders", "audit"} {
		w.arrives(t, channel, 3)
	}
	w.outage(t, r, func() {
		if _, err := long.Exec(ctx, strings.NewReplacer("$1", "100", "$2", "101").Replace(insertNews)+"; COMMIT"); err != nil {
			t.Fatal(err)
		}
		w.insert(t, 4, 6)
	})
	r.ready(t)
	w.insert(t, 7, 7)
	for _, channel := range []string{"orders", "audit"} {
		w.arrives(t, channel, 7)
		all := w.on(t, channel)
		gap, at := gapOf(t, all, api.ReasonReconnected)
		rows := rowsIn(all)
		for _, id := range []string{"4", "5", "6", "100", "101"} {
			if !slices.Contains(rows, id) {
				t.Errorf("%s: row %s is missing, there are %q", channel, id, rows)
			}
		}
		if gap.CatchUp == nil || !gap.CatchUp.Complete || gap.CatchUp.Rows != int64(len(rows)) || gap.CatchUp.Since == nil || gap.CatchUp.Since.After(*gap.Since) {
			t.Errorf("%s: the gap says %+v, want complete with %d rows from before %s", channel, gap.CatchUp, len(rows), gap.Since)
		} else if since := *gap.CatchUp.Since; since.After(began) || since.Before(began.Add(-2*time.Second)) {
			t.Errorf("%s: the script was told the time since %s, want when the oldest transaction began, %s, or just before", channel, since, began)
		}
		if n := len(rowsIn(all[:at])); n != len(rows) {
			t.Errorf("%s: %d of %d rows are in front of the gap", channel, n, len(rows))
		}
		if last := all[len(all)-1]; string(last.Data) != "7" || at != len(all)-2 {
			t.Errorf("%s: the gap is message %d of %d, the last %q; want event 7 right behind it", channel, at+1, len(all), last.Data)
		}
	}
	for _, m := range w.on(t, "audit") {
		if m.Header.Get("Pgbridge-Catch-Up") != "" && (m.Header.Get("Pgbridge-After") == "" || !strings.Contains(m.Header.Get("Pgbridge-Open"), "audit@")) {
			t.Errorf("a row has the headers %v, want the event that it follows, and that its channel's loss goes on", m.Header)
		}
	}
	for _, channel := range []string{"orders", "audit"} {
		testenv.Wait(t, patience, "two catch-ups to be counted, with that of the start", func() bool {
			return r.counter(t, "pgbridge_catch_ups_total", channel) == 2 && r.counter(t, "pgbridge_catch_up_rows_total", channel) > 4
		})
	}
}

// A script that fails is announced, with the reason, and keeps nothing back.
func TestCatchUpFails(t *testing.T) {
	t.Parallel()
	w := newNewsWorld(t)
	fails := func(ctx context.Context, _ bridge.Window, row func(context.Context, []byte) error) error {
		return errors.Join(row(ctx, []byte("1000")), errors.New("no such table"))
	}
	r := launch(t, w.reads(t, fails)).ready(t)
	w.outage(t, r, func() { w.insert(t, 1, 3) })
	r.ready(t)
	w.insert(t, 4, 4)
	for _, channel := range []string{"orders", "audit"} {
		w.arrives(t, channel, 4)
		gap, _ := gapOf(t, w.on(t, channel), api.ReasonReconnected)
		if c := gap.CatchUp; c == nil || c.Complete || c.Rows != 1 || c.Error != "internal" {
			t.Errorf("%s: the gap says %+v, want that it is not complete, with the row and why", channel, c)
		}
	}
	r.logged(t, "catch-up script failed", "missed.audit")
}

// A script that does not end is cut off with everything else when pgbridge stops.
func TestCatchUpHangs(t *testing.T) {
	t.Parallel()
	w := newNewsWorld(t)
	var begun, over atomic.Int32
	hangs := func(ctx context.Context, in bridge.Window, _ func(context.Context, []byte) error) error {
		if in.Since.IsZero() {
			return nil // the start
		}
		begun.Add(1)
		defer over.Add(1)
		<-ctx.Done()
		return ctx.Err()
	}
	c := w.reads(t, hangs)
	c.StopGrace = time.Second
	r := launch(t, c).ready(t)
	w.outage(t, r, func() { w.insert(t, 1, 3) })
	testenv.Wait(t, patience, "both scripts to run", func() bool { return begun.Load() == 2 })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if over.Load() != begun.Load() {
		t.Errorf("%d scripts run on behind the end of %d", begun.Load()-over.Load(), begun.Load())
	}
}

// A reload gives a channel its script, and takes it away.
func TestCatchUpIsReloaded(t *testing.T) {
	t.Parallel()
	w := newNewsWorld(t)
	c := w.reads(t, w.missed)
	c.Channels = map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}}
	r := launch(t, c).ready(t)
	id := 1
	for _, want := range []bool{true, false} {
		channels := newsChannels
		if !want {
			channels = c.Channels
		}
		if err := r.Reload(channels); err != nil {
			t.Fatal(err)
		}
		before := map[string]int{"orders": len(w.on(t, "orders")), "audit": len(w.on(t, "audit"))}
		w.outage(t, r, func() { w.insert(t, id, id) })
		r.ready(t)
		w.insert(t, id+1, id+1)
		for channel, n := range before {
			w.arrives(t, channel, id+1)
			gap, _ := gapOf(t, w.on(t, channel)[n:], api.ReasonReconnected)
			if got := gap.CatchUp != nil; got != want {
				t.Errorf("%s: the gap says %+v, want a script: %t", channel, gap.CatchUp, want)
			}
		}
		id += 2
	}
	c.CatchUp = nil
	c.Channels = newsChannels
	if _, err := bridge.New(c); !slices.Contains(keys(err), "channels.audit.catch_up") {
		t.Errorf("New without scripts = %v, want the key of the channel", err)
	}
}

// A replica is cut off in the middle of its script. Another does it again, goes on behind
// the row that the stream has, and nothing is missing.
func TestCatchUpIsTakenOver(t *testing.T) {
	t.Parallel()
	w := newNewsWorld(t)
	var victim atomic.Int32 // the number of the replica that runs the script first; 0: none yet
	run := func(number int32) bridge.CatchUp {
		return func(ctx context.Context, in bridge.Window, row func(context.Context, []byte) error) error {
			if in.Since.IsZero() { // the start
				return nil
			}
			if !victim.CompareAndSwap(0, number) && victim.Load() != number {
				return w.missed(ctx, in, row)
			}
			err := row(ctx, []byte("4"))
			<-ctx.Done()
			return errors.Join(err, ctx.Err())
		}
	}
	all := map[int32]*links{}
	for number := int32(1); number <= 2; number++ {
		l := newLinks(t, w.world, w.server)
		all[number] = l
		c := w.reads(t, run(number))
		l.through(t, w.world)(&c)
		if r := launch(t, c); number == 1 {
			r.ready(t)
		} else {
			r.standingBy(t)
		}
	}
	w.insert(t, 1, 3)
	for _, channel := range []string{"orders", "audit"} {
		w.arrives(t, channel, 3)
	}
	for _, l := range all {
		l.pg.Lead(nobody)
	}
	for _, l := range all {
		l.pg.Cut()
	}
	w.insert(t, 4, 6)
	for _, l := range all {
		l.pg.Lead(testenv.Postgres(t).Addr())
	}
	for _, channel := range []string{"orders", "audit"} {
		testenv.Wait(t, patience, "the first row", func() bool { return len(rowsIn(w.on(t, channel))) > 0 })
	}
	cut := all[victim.Load()]
	cut.freeze()
	defer cut.thaw()
	for _, channel := range []string{"orders", "audit"} {
		testenv.Wait(t, patience, "the other replica to catch up", func() bool {
			return slices.ContainsFunc(w.on(t, channel), func(m *nats.Msg) bool {
				return strings.Contains(m.Subject, ".gap.") && strings.Contains(string(m.Data), `"complete":true`) && !strings.Contains(string(m.Data), "started")
			})
		})
	}
	w.insert(t, 7, 7)
	for _, channel := range []string{"orders", "audit"} {
		w.arrives(t, channel, 7)
		rows := rowsIn(w.on(t, channel))
		for _, id := range []string{"4", "5", "6"} {
			if !slices.Contains(rows, id) {
				t.Errorf("%s: row %s is missing, there are %q", channel, id, rows)
			}
		}
		live := map[string]int{}
		for _, m := range w.on(t, channel) {
			if m.Header.Get("Pgbridge-Catch-Up") == "" && !strings.Contains(m.Subject, ".gap.") {
				live[string(m.Data)]++
			}
		}
		for id, n := range live {
			if n != 1 {
				t.Errorf("%s: event %s came %d times", channel, id, n)
			}
		}
	}
}

// A row that fits no message is announced, and not asked for again; the others come.
func TestCatchUpOfARowThatIsTooLarge(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t, func(o *server.Options) { o.MaxPayload = 4096 })
	w := &newsWorld{world: worldWith(t, server), server: server, proxy: testenv.NewProxy(t, testenv.Postgres(t).Addr())}
	testenv.Exec(t, w.pg, "CREATE TABLE news (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")
	var runs atomic.Int32
	large := func(ctx context.Context, in bridge.Window, row func(context.Context, []byte) error) error {
		runs.Add(1)
		if in.Since.IsZero() { // the start
			return nil
		}
		return errors.Join(row(ctx, []byte("4")), row(ctx, make([]byte, 5000)), row(ctx, []byte("6")))
	}
	r := launch(t, w.reads(t, large)).ready(t)
	w.outage(t, r, func() { w.insert(t, 4, 6) })
	r.ready(t)
	w.insert(t, 7, 7)
	for _, channel := range []string{"orders", "audit"} {
		w.arrives(t, channel, 7)
		all := w.on(t, channel)
		if got := rowsIn(all); !slices.Equal(got, []string{"4", "6"}) {
			t.Errorf("%s: rows %q, want those that fit", channel, got)
		}
		if gap, _ := gapOf(t, all, api.ReasonReconnected); gap.CatchUp == nil {
			t.Errorf("%s: the gap says nothing of the script", channel)
		}
	}
	w.insert(t, 8, 8)
	for _, channel := range []string{"orders", "audit"} {
		w.arrives(t, channel, 8)
		if gaps := w.heard.gaps(t, channel); len(gaps) != 3 {
			t.Errorf("%s: gaps %s, want that of the start, that of the row and that of the outage", channel, show(gaps))
		}
	}
	if n := runs.Load(); n != 4 {
		t.Errorf("the script was run %d times, want once for each channel at the start and behind the outage", n)
	}
}
