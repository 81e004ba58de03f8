package durable

import (
	"errors"
	"slices"
	"testing"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A replica that has counted enough failures of a slot, and was slow since, neither drops
// the slot that another has made in its place nor announces its loss once more.
func TestSlotOfASuccessorIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	r := w.run([]string{"a"})
	w.begun(1)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	late := w.lateSession()
	seen, err := lookAtSlot(t.Context(), late.conn, late.slot)
	if err != nil || !seen.exists {
		t.Fatalf("lookAtSlot() = %+v, %v", seen, err)
	}
	late.failure = failure{state: "XX000", at: 1, confirmed: seen.confirmed, times: givenUpAfter}

	w.dropSlot()
	r = w.run([]string{"a"})
	w.begun(2)
	if reads, err := lookAtSlot(t.Context(), late.conn, late.slot); err != nil || !reads.active {
		t.Fatalf("lookAtSlot() = %+v, %v", reads, err)
	} else if dropped, err := dropSlotIf(t.Context(), late.conn, late.slot, reads); dropped || err != nil {
		t.Errorf("dropSlotIf() = %t, %v while the slot is read", dropped, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.exec("SELECT pgbridge.notify('a', 'kept by the new slot')")
	if err := late.replace(t.Context(), seen); !errors.Is(err, errReplaced) {
		t.Errorf("replace() = %v, want %v", err, errReplaced)
	}
	if owed := testenv.Value[string](t, w.url, "SELECT owed::text FROM pgbridge.position"); owed != "{}" {
		t.Errorf("the gaps %s are owed", owed)
	}
	w.run([]string{"a"})
	w.exec("SELECT pgbridge.notify('a', 'last')")
	all := w.await("last")
	if got, want := events(all), []string{"a kept by the new slot", "a last"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if got, want := gaps(all), []string{"a started", "a slot_lost"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
}

// lateSession is that of a replica which has prepared all but its slot.
func (w *world) lateSession() *session {
	w.t.Helper()
	f, err := newFeed(w.url, w.nats, zap.NewNop())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(f.NC.Close)
	conn, err := f.connect(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { closeConn(w.t.Context(), conn) })
	name, err := slotNameIn(w.t.Context(), conn, f.Prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	return &session{Feed: f, conn: conn, slot: name}
}
