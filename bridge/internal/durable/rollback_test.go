package durable

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// restorable is a NATS server whose store can be put back as it was.
type restorable struct {
	*testenv.NATSServer
	t           *testing.T
	store, copy string
}

func newRestorable(t *testing.T) *restorable {
	t.Helper()
	r := &restorable{t: t, copy: t.TempDir()}
	r.NATSServer = testenv.NATS(t, func(o *server.Options) { r.store = o.StoreDir })
	return r
}

// keep copies the store.
func (r *restorable) keep() {
	r.t.Helper()
	r.Stop(r.t)
	if err := os.CopyFS(r.copy, os.DirFS(r.store)); err != nil {
		r.t.Fatal(err)
	}
	r.Start(r.t)
}

// restore puts the copy back.
func (r *restorable) restore() {
	r.t.Helper()
	r.Stop(r.t)
	if err := os.RemoveAll(r.store); err != nil {
		r.t.Fatal(err)
	}
	if err := os.CopyFS(r.store, os.DirFS(r.copy)); err != nil {
		r.t.Fatal(err)
	}
	r.Start(r.t)
}

// A stream that is an older copy of itself lost what it had acknowledged. What
// the slot does not have any more is announced.
func TestStreamThatIsAnOlderCopy(t *testing.T) {
	t.Parallel()
	ns := newRestorable(t)
	w := newWorld(t, dedicated(t), ns.URL())
	r := w.three([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', '1')")
	w.await("1")
	ns.keep()
	w.exec("SELECT pgbridge.notify('a', '2')")
	w.await("2")
	testenv.Wait(t, patience, "the event to be confirmed and remembered", func() bool {
		return testenv.Value[bool](t, w.url, `SELECT last_sequence = 3 AND confirmed_flush_lsn = pg_current_wal_lsn()
			FROM pgbridge.position, pg_replication_slots WHERE slot_name LIKE 'pgbridge%'`)
	})
	ns.restore()
	w.exec("SELECT pgbridge.notify('a', '3')")
	all := w.await("3")
	if got, want := gaps(all), []string{"a started", "a nats_unavailable"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q: the event 2 is lost", got, want)
	}
	if got, want := events(all), []string{"a 1", "a 3"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	r.stop(t)
}

// With a delay of the confirmation the slot still has it, and nothing is missing.
func TestConfirmDelayOutlastsAnOlderCopy(t *testing.T) {
	t.Parallel()
	ns := newRestorable(t)
	w := newWorld(t, dedicated(t), ns.URL())
	delayed := func(f *Feed) { f.ConfirmDelay = time.Hour }
	w.three([]string{"a"}, delayed)
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', '1')")
	w.await("1")
	ns.keep()
	for _, payload := range []string{"2", "equal", "equal", "3"} {
		w.exec("SELECT pgbridge.notify('a', $1::text)", payload)
	}
	w.await("3")
	testenv.Wait(t, patience, "the position to be remembered", func() bool {
		return testenv.Value[bool](t, w.url, "SELECT last_sequence = 6 FROM pgbridge.position")
	})
	ns.restore()
	w.exec("SELECT pgbridge.notify('a', '4')")
	all := w.await("4")
	w.compare(all)
	onlyStarted(t, all)
}

// After a silence longer than the stream keeps its messages the last one is gone
// while the slot goes on.
func TestStreamThatExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	one := w.spawn([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', '1'); SELECT pgbridge.notify('a', '2')")
	w.await("2")
	testenv.Wait(t, patience, "the position to be remembered", func() bool {
		return testenv.Value[bool](t, w.url, "SELECT last_sequence = 3 FROM pgbridge.position")
	})
	one.Kill()
	w.expire()
	w.three([]string{"a"})
	w.exec("SELECT pgbridge.notify('a', '3')")
	all := w.await("3")
	if got := events(all); !slices.Equal(got, []string{"a 3"}) || len(gaps(all)) > 0 {
		t.Errorf("events %q, gaps %q after the stream expired, want the new event alone", got, gaps(all))
	}
	w.expire() // also under a feed that runs
	w.exec("SELECT pgbridge.notify('a', '4')")
	if all := w.await("4"); len(all) != 1 {
		t.Errorf("%d messages after a silence, want the new one alone", len(all))
	}
}

// expire has all messages expire, and lets new ones live.
func (w *world) expire() {
	w.t.Helper()
	js, s := w.stream()
	config := s.CachedInfo().Config
	short := config
	short.MaxAge, short.Duplicates = 100*time.Millisecond, 100*time.Millisecond
	if _, err := js.UpdateStream(w.t.Context(), short); err != nil {
		w.t.Fatal(err)
	}
	testenv.Wait(w.t, patience, "the messages to expire", func() bool {
		info, err := s.Info(w.t.Context())
		return err == nil && info.State.Msgs == 0
	})
	if _, err := js.UpdateStream(w.t.Context(), config); err != nil {
		w.t.Fatal(err)
	}
}
