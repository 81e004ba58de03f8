package durable

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// pair is a primary with a standby and a world on the primary.
type pair struct {
	*world
	primary, standby *testenv.PG
	major            int
	name             *testenv.Proxy // by which replicas know the primary
}

// newPair has the slot follow to the standby where the version can do that.
func newPair(t *testing.T, natsURL string) *pair {
	t.Helper()
	primary := dedicated(t)
	p := &pair{world: newWorld(t, primary, natsURL), primary: primary}
	p.major = testenv.Value[int](t, p.url, "SELECT current_setting('server_version_num')::int / 10000")
	p.exec("SELECT pg_drop_replication_slot($1)", p.oracle) // a standby has no such one
	more := map[string]string{"max_prepared_transactions": "10", "hot_standby_feedback": "on"}
	if p.major >= 17 {
		p.exec("SELECT pg_create_physical_replication_slot('standby')")
		more["primary_slot_name"], more["sync_replication_slots"] = "standby", "on"
	}
	p.standby = testenv.Standby(t, primary, more)
	p.name = testenv.NewProxy(t, primary.Addr())
	return p
}

// byName is the same world for replicas that follow the primary's name.
func (p *pair) byName() *world {
	p.t.Helper()
	w := *p.world
	w.url = p.name.Reroute(p.t, p.url)
	return &w
}

// on is the same world as another server has it.
func (p *pair) on(server *testenv.PG) *world {
	p.t.Helper()
	from, err := url.Parse(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	w := *p.world
	w.url = server.Server().URL(strings.TrimPrefix(from.Path, "/"))
	return &w
}

// caughtUp waits until the standby has all that was committed, and the slot with
// it where that follows.
func (p *pair) caughtUp() {
	p.t.Helper()
	end := testenv.Value[string](p.t, p.url, "SELECT pg_current_wal_flush_lsn()::text")
	testenv.Wait(p.t, patience, "the standby to catch up", func() bool {
		return testenv.Value[bool](p.t, p.standby.URL(), "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", end)
	})
	if p.major < 17 {
		return
	}
	testenv.Wait(p.t, patience, "the slot to follow", func() bool {
		// The standby waits until the slot has come beyond where it began to copy.
		p.try(p.url, "SELECT pg_log_standby_snapshot(), pg_logical_emit_message(true, 'other', '')")
		return testenv.Value[bool](p.t, p.standby.URL(), `SELECT EXISTS (SELECT FROM pg_replication_slots
			WHERE slot_name LIKE 'pgbridge%' AND to_jsonb(pg_replication_slots) ->> 'synced' = 'true' AND NOT temporary)`)
	})
}

// try executes what may fail.
func (p *pair) try(url, sql string) {
	conn, err := pgx.Connect(p.t.Context(), url)
	if err != nil {
		return
	}
	defer conn.Close(context.WithoutCancel(p.t.Context()))
	_, _ = conn.Exec(p.t.Context(), sql)
}

func promote(t *testing.T, pg *testenv.PG) {
	t.Helper()
	if !testenv.Value[bool](t, pg.URL(), "SELECT pg_promote()") {
		t.Fatal("the standby was not promoted")
	}
}

// A standby that has everything is promoted, and three replicas follow the name. With a
// slot that followed nothing is lost or repeated, also where that gives again what was
// written on the timeline before; without one the loss of the slot is announced.
func TestPromotionWithTheNewestCommits(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{"confirmed": 0, "not confirmed": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, testenv.NATS(t).URL())
			r := p.byName().three([]string{"a"})
			p.begun(1)
			if delay > 0 {
				p.caughtUp() // a slot that is not confirmed does not begin to follow
				r.stop(t)
				p.byName().three([]string{"a"}, func(f *Feed) { f.ConfirmDelay = delay })
			}
			want := p.named("before", 20)
			before := p.await("before 20")
			p.caughtUp()
			p.primary.Kill(t)
			promote(t, p.standby)
			promoted := p.on(p.standby)
			p.name.Lead(p.standby.Addr())
			if p.major < 17 {
				promoted.begun(len(before) + 1)
			}
			want = append(want, promoted.named("after", 20)...)
			all := promoted.await("after 20")
			if got := events(all); !slices.Equal(got, want) {
				t.Errorf("events %q, want %q", got, want)
			}
			wantGaps := []string{"a started"}
			if p.major < 17 {
				wantGaps = append(wantGaps, "a slot_lost")
			}
			if got := gaps(all); !slices.Equal(got, wantGaps) {
				t.Errorf("gaps %q, want %q", got, wantGaps)
			}
		})
	}
}

// A standby is promoted that never had the newest commits, though the stream has
// them, and goes on at the same places of the log. What the database lost is
// announced; what it has instead is all there, at the very places of what was lost and
// beyond them. Replicas that still read the old primary publish nothing.
func TestPromotionWithoutTheNewestCommits(t *testing.T) {
	t.Parallel()
	for name, beyond := range map[string]bool{"at the same places": false, "beyond": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, testenv.NATS(t).URL())
			r := p.byName().three([]string{"a"})
			p.begun(1)
			p.exec("SELECT pgbridge.notify('a', 'both')")
			p.await("both")
			p.caughtUp()
			p.standby.Stop(t)
			p.named("lost", 1000)
			before := p.await("lost 1000")
			p.primary.Stop(t) // so that the standby does not hear of them
			p.standby.Start(t)
			promote(t, p.standby)
			promoted := p.on(p.standby)
			if beyond {
				promoted.fill()
			}
			p.name.Lead(p.standby.Addr())
			testenv.Wait(t, patience, "the loss to be announced", func() bool { return slices.Contains(gaps(promoted.messages()), "a history_lost") })
			want := promoted.named("new", 10)
			all := promoted.await("new 10")
			if got := events(all[len(before):]); !slices.Equal(got, want) {
				t.Errorf("events %q after the promotion, want %q", got, want)
			}
			if first := committedAt(t, all[len(all)-10]); first > committedAt(t, before[len(before)-1]) != beyond {
				t.Errorf("the first new event was committed at %s, the last one that is lost at %s", first, committedAt(t, before[len(before)-1]))
			}

			// The old primary is alive again, and has commits that nobody else has.
			p.primary.Start(t)
			p.exec("SELECT pgbridge.notify('a', 'of the old side')")
			r.stop(t)
			old := p.three([]string{"a"})
			testenv.Wait(t, patience, "the old side to say so", func() bool { return old.haveSaid(ErrSplit.Error()) })
			promoted.three([]string{"a"})
			promoted.exec("SELECT pgbridge.notify('a', 'the last')")
			last := promoted.await("the last")
			if got := events(last[len(all):]); !slices.Equal(got, []string{"a the last"}) {
				t.Errorf("events %q, want none of the old side", got)
			}
			wantGaps := []string{"a started", "a history_lost"}
			if p.major < 17 {
				wantGaps = append(wantGaps, "a slot_lost")
			}
			if got := gaps(last); !slices.Equal(got, wantGaps) {
				t.Errorf("gaps %q, want %q", got, wantGaps)
			}
		})
	}
}

// named sends so many events and returns them.
func (w *world) named(name string, n int) (sent []string) {
	w.t.Helper()
	w.each(n, "pgbridge.notify('a', '"+name+" ' || i)")
	for i := range n {
		sent = append(sent, fmt.Sprint("a ", name, " ", i+1))
	}
	return sent
}

// fill makes the log longer.
func (w *world) fill() {
	w.t.Helper()
	w.exec("CREATE TABLE filler AS SELECT repeat('x', 100) FROM generate_series(1, 10000)")
}

func committedAt(t *testing.T, m message) wal.LSN {
	t.Helper()
	p, err := parseID(m.id)
	if err != nil {
		t.Fatal(err)
	}
	return p.commit
}

// A snapshot that was restored on the same timeline, under three replicas, is behind the
// stream. Nothing is published until an operator says that it is the one to go on with.
func TestSnapshotThatIsRestored(t *testing.T) {
	t.Parallel()
	pg := dedicated(t)
	w := newWorld(t, pg, testenv.NATS(t).URL())
	r := w.three([]string{"a"})
	before := w.losesEvents(pg, func() {})
	testenv.Wait(t, patience, "the copy to be noticed", func() bool { return r.haveSaid(ErrSplit.Error()) })
	if n := len(w.messages()); n != len(before) {
		t.Errorf("%d messages, %d before the copy was restored", n, len(before))
	}
	r.stop(t)
	w.three([]string{"a"}, func(f *Feed) { f.Accept = true })
	w.exec("SELECT pgbridge.notify('a', 'new')")
	after := w.await("new")[len(before):]
	if got := events(after); !slices.Equal(got, []string{"a new"}) || !slices.Contains(gaps(after), "a history_lost") {
		t.Errorf("events %q, gaps %q, want the new event and what was lost", got, gaps(after))
	}
}

// A restored snapshot that has gone beyond the stream before a replica sees it is told by
// what the stream has and it has not. That is announced once, before what it has instead,
// also where a replica ends that could not publish all of that.
func TestSnapshotThatIsRestoredAndGoesOn(t *testing.T) {
	t.Parallel()
	const unlimited = -1
	for name, tt := range map[string]struct {
		fresh int   // events that the copy has instead
		room  int64 // in the stream, at first
	}{
		"all at once":       {10, unlimited},
		"nothing at first":  {10, 0},
		"some at first":     {10, 5},
		"and has no events": {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg := dedicated(t)
			w := newWorld(t, pg, testenv.NATS(t).URL())
			r := w.three([]string{"a"})
			before := w.losesEvents(pg, func() { r.stop(t) })
			want := append(w.named("new", tt.fresh), "a last")
			w.fill()
			if tt.room != unlimited {
				lift := w.limit(tt.room)
				r = w.three([]string{"a"})
				testenv.Wait(t, patience, "the stream to be full", func() bool { return r.tells("maximum messages exceeded") })
				r.stop(t)
				lift()
			}
			w.exec("SELECT pgbridge.notify('a', 'last')")
			w.three([]string{"a"})
			after := w.await("last")[len(before):]
			if got := events(after); !slices.Equal(got, want) {
				t.Errorf("events %q, want %q", got, want)
			}
			if got := gaps(after); !slices.Equal(got, []string{"a history_lost"}) || after[0].gap == nil {
				t.Errorf("gaps %q, want what was lost before all that is new", got)
			}
		})
	}
}

// limit has the stream take so many messages more, until lift is called.
func (w *world) limit(more int64) (lift func()) {
	w.t.Helper()
	js, s := w.stream()
	config := s.CachedInfo().Config
	full := config
	full.MaxMsgs, full.Discard = int64(s.CachedInfo().State.Msgs)+more, jetstream.DiscardNew
	if full.MaxMsgs <= 0 {
		w.t.Fatal("a stream cannot be limited to nothing")
	}
	update := func(c jetstream.StreamConfig) {
		if _, err := js.UpdateStream(w.t.Context(), c); err != nil {
			w.t.Fatal(err)
		}
	}
	update(full)
	return func() { update(config) }
}

// losesEvents puts a server back to an older copy of itself, which has not the events that
// the stream got since, and returns what that has. Just before it calls then.
func (w *world) losesEvents(pg *testenv.PG, then func()) []message {
	w.t.Helper()
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', 'both')")
	w.await("both")
	snapshot := w.t.TempDir() + "/data"
	pg.Stop(w.t)
	if err := pgserver.CopyDataDir(w.t.Context(), pg.Server().DataDir(), snapshot); err != nil {
		w.t.Fatal(err)
	}
	pg.Start(w.t)
	w.named("lost", 1000)
	all := w.await("lost 1000")
	then()
	pg.Stop(w.t)
	restore(w.t, pg, snapshot)
	pg.Start(w.t)
	return all
}

// restore puts a copy in place of a stopped server's data.
func restore(t *testing.T, pg *testenv.PG, snapshot string) {
	t.Helper()
	data := pg.Server().DataDir()
	account, err := pgserver.ServerAccount()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := pgserver.CopyDataDir(t.Context(), snapshot, data); err != nil {
		t.Fatal(err)
	}
	if err := account.Own(data); err != nil {
		t.Fatal(err)
	}
}
