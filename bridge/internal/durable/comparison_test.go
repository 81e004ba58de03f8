package durable

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// The messages that are read at a time are bounded by their bytes.
func TestMessagesReadAtOnce(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int64]uint64{0: 1, 1 << 10: 64, 1 << 20: 8, 8 << 20: 1, 64 << 20: 1} {
		if n := atOnce(limit); n != want {
			t.Errorf("%d messages of %d bytes at a time, want %d", n, limit, want)
		}
	}
}

// TestGapOfAComparisonIsNoEnd holds that what the stream has is not published again
// by the session after the one that compared: the gap which that left is the stream's
// last message.
func TestGapOfAComparisonIsNoEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	unconfirmed := func(f *Feed) { f.ConfirmDelay, f.Accept = time.Hour, true }
	first := w.run([]string{"a"}, unconfirmed)
	w.begun(1)
	var want []string
	for i := range 10 {
		w.exec("SELECT pgbridge.notify('a', $1::text)", fmt.Sprint("event ", i))
		want = append(want, fmt.Sprint("a event ", i))
		if i == 5 { // two that no message holds, with gaps in their places
			w.exec("SELECT pg_logical_emit_message(true, 'pgbridge.a', repeat('x', 2000000)), pg_logical_emit_message(true, 'pgbridge:a', '')")
		}
	}
	w.await("event 9")
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}

	// What another history left, as after a promotion.
	nc, err := nats.Connect(w.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	foreign := nats.NewMsg("pgbridge.event.a")
	foreign.Data = []byte("of another history")
	foreign.Header.Set(event.HeaderID, position{system: "4711", timeline: 1, commit: 1, message: 1, hash: hashOf("a", nil)}.id())
	if _, err := nc.RequestMsg(foreign, patience); err != nil {
		t.Fatal(err)
	}
	want = append(want, "a of another history")

	for range 3 {
		r := w.run([]string{"a"}, unconfirmed)
		testenv.Wait(t, patience, "the slot to be read", func() bool { return r.logs.FilterMessage("reads the replication slot").Len() > 0 })
		w.exec("SELECT pg_logical_emit_message(true, 'other', '')") // the log goes on
		testenv.Wait(t, patience, "the loss to be announced", func() bool { return slices.Contains(gaps(w.messages()), "a history_lost") })
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	w.run([]string{"a"}, unconfirmed)
	w.exec("SELECT pgbridge.notify('a', 'last')")
	all := w.await("last")
	if got := events(all); !slices.Equal(got, append(want, "a last")) {
		t.Errorf("events %q, want %q", got, append(want, "a last"))
	}
	if got := gaps(all); !slices.Equal(got, []string{"a started", "a overflow", "a overflow", "a history_lost"}) {
		t.Errorf("gaps %q, want each of one event once, and one of what was lost", got)
	}
}
