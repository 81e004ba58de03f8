package durable

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A replica freezes with events of two channels on their way; another goes on that
// has one of them, or a third, as in a rolling update. Whatever arrives of the
// first then, nothing is there twice and nothing is missing.
func TestRollingUpdateWithOtherChannels(t *testing.T) {
	t.Parallel()
	for name, next := range map[string][]string{"fewer": {"a"}, "more": {"a", "b", "c"}, "others": {"b", "c"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := testenv.NATS(t)
			w := newWorld(t, testenv.Postgres(t), ns.URL())
			link := testenv.NewProxy(t, ns.Addr())
			far := *w
			far.nats = "nats://" + link.Addr()
			var lease atomic.Bool
			lease.Store(true)
			old := far.run([]string{"a", "b"}, far.patient, func(f *Feed) { f.Lease = lease.Load })
			w.begun(2)
			link.Freeze()
			w.each(10, "pgbridge.notify('b', 'b' || i), pgbridge.notify('a', 'a' || i)")
			testenv.Wait(t, patience, "the events to be on their way", func() bool { return old.NC.Stats().OutMsgs >= 22 })
			lease.Store(false)
			w.run(next)
			testenv.Wait(t, patience, "the other replica to publish", func() bool { return len(events(w.messages())) >= 10 })
			link.Thaw()
			if err := old.NC.Flush(); err != nil {
				t.Log("the frozen connection broke:", err) // what it held arrives all the same
			}
			w.exec(fmt.Sprintf("SELECT pgbridge.notify('%s', 'the end')", next[0]))
			w.compare(w.await("the end"))
		})
	}
}

// A replica freezes with events behind the first gap of a channel, while the slot still
// gives what was sent there before the channel was one. Whoever goes on repeats what is
// on its way, and not what nobody was promised: else the sequences move, and the stream
// takes the second event of the frozen replica in the place of the first.
func TestFrozenBehindTheFirstGap(t *testing.T) {
	t.Parallel()
	ns := testenv.NATS(t)
	w := newWorld(t, testenv.Postgres(t), ns.URL())
	late := func(f *Feed) { f.ConfirmDelay = time.Hour } // the slot gives everything again
	first := w.run([]string{"a"}, late)
	w.begun(1)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	w.exec("SELECT pgbridge.notify('b', 'too early')")
	link := testenv.NewProxy(t, ns.Addr())
	far := *w
	far.nats = "nats://" + link.Addr()
	var lease atomic.Bool
	lease.Store(true)
	old := far.run([]string{"a", "b"}, late, far.patient, func(f *Feed) { f.Lease = lease.Load })
	testenv.Wait(t, patience, "the gap to be announced and remembered", func() bool {
		return testenv.Value[bool](t, w.url, "SELECT channels = '{a,b}' AND owed = '{}' FROM pgbridge.position")
	})
	link.Freeze()
	sent := old.NC.Stats().OutMsgs
	var want []string
	w.each(10, "pgbridge.notify('b', i::text)")
	for i := range 10 {
		want = append(want, fmt.Sprint("b ", i+1))
	}
	testenv.Wait(t, patience, "the events to be on their way", func() bool { return old.NC.Stats().OutMsgs >= sent+10 })
	lease.Store(false)
	w.run([]string{"a", "b"}, late)
	testenv.Wait(t, patience, "the other replica to publish", func() bool { return len(events(w.messages())) >= 10 })
	link.Thaw()
	if err := old.NC.Flush(); err != nil {
		t.Log("the frozen connection broke:", err) // what it held arrives all the same
	}
	w.exec("SELECT pgbridge.notify('b', 'the end')")
	all := w.await("the end")
	if got, want := events(all), append(want, "b the end"); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if got, want := gaps(all), []string{"a started", "b started"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
}

// While the database does not remember that a gap is announced no event follows it: the
// next session announces it once more, and would move what is on its way.
func TestNothingFollowsAGapThatIsNotRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	w.exec(`CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(14); RETURN NEW; END';
		CREATE TRIGGER wait BEFORE UPDATE ON pgbridge.position FOR EACH ROW WHEN (NEW.owed = '{}' AND OLD.owed <> '{}') EXECUTE FUNCTION wait_for_test()`)
	holder := w.connect()
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(14)"); err != nil {
		t.Fatal(err)
	}
	w.run([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', '1')")
	testenv.Wait(t, patience, "the next session, behind the one that could not write", func() bool { return w.lastSequence() >= 2 })
	if all := w.messages(); len(events(all)) != 0 {
		t.Errorf("the events %q follow a gap that is not remembered", events(all))
	}
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_unlock(14)"); err != nil {
		t.Fatal(err)
	}
	w.compare(w.await("1"))
}

func TestTermsAreDecidedOnce(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	chosen := func(channels ...string) *routes {
		r := &routes{channels: channels, byPrefix: w.routes(nil)}
		for name, route := range w.routes(channels) {
			r.byPrefix[plainPrefix+name] = route
		}
		return r
	}
	saved := func(all map[string]term, owed map[string]api.Reason, channels ...string) *row {
		return &row{id: at(1, 500, 500).id(), terms: all, owed: owed, channels: channels}
	}
	started := map[string]api.Reason{"a": api.ReasonStarted}
	raw := func(from, until wal.LSN) term { return term{Envelope: "raw", From: from, Until: until} }
	elsewhere := func(r *row) *row {
		p := at(1, 500, 500)
		p.system = "8"
		r.id = p.id()
		return r
	}
	for _, tt := range []struct {
		name  string
		next  []string
		saved *row
		want  map[string]term
	}{
		{"the first session", []string{"a"}, nil, map[string]term{"a": raw(1000, 0)}},
		{"the next, before the gap", []string{"a"}, saved(map[string]term{"a": raw(700, 0)}, started, "a"), map[string]term{"a": raw(700, 0)}},
		{"the next, after the gap", []string{"a"}, saved(map[string]term{"a": raw(700, 0)}, nil, "a"), map[string]term{"a": raw(700, 0)}},
		{"in another cluster", []string{"a"}, elsewhere(saved(map[string]term{"a": raw(700, 0)}, nil, "a")), map[string]term{"a": raw(0, 0)}},
		{"a shorter log", []string{"a"}, saved(map[string]term{"a": raw(7000, 0)}, started, "a"), map[string]term{"a": raw(1000, 0)}},
		{"one is removed", []string{"b"}, saved(map[string]term{"a": raw(0, 0), "b": raw(0, 0)}, nil, "a", "b"), map[string]term{"a": raw(0, 1000), "b": raw(0, 0)}},
		{"it stays removed", []string{"b"}, saved(map[string]term{"a": raw(0, 900), "b": raw(0, 0)}, nil, "b"), map[string]term{"a": raw(0, 900), "b": raw(0, 0)}},
		{"it is over", []string{"b"}, saved(map[string]term{"a": raw(0, 500), "b": raw(0, 0)}, nil, "b"), map[string]term{"b": raw(0, 0)}},
		{"it comes again", []string{"a"}, saved(map[string]term{"a": raw(0, 900)}, nil, "b"), map[string]term{"a": raw(1000, 900), "b": {Until: 1000}}},
	} {
		if got := terms(chosen(tt.next...), tt.saved, &wal.System{ID: "7", Timeline: 1, Flushed: 1000}, 600); !maps.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	for _, tt := range []struct {
		term term
		want []bool // at 100, 200, 300
	}{
		{raw(0, 0), []bool{true, true, true}},
		{raw(200, 0), []bool{false, true, true}},
		{raw(0, 200), []bool{true, false, false}},
		{raw(150, 250), []bool{false, true, false}},
		{raw(300, 200), []bool{true, false, true}},
	} {
		if got := []bool{tt.term.carries(100), tt.term.carries(200), tt.term.carries(300)}; !slices.Equal(got, tt.want) {
			t.Errorf("%+v carries %v, want %v", tt.term, got, tt.want)
		}
	}
}
