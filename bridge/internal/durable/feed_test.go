package durable

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestFeedPublishesWhatWasCommitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	r := w.run([]string{"a", "b"})
	w.begun(2)
	w.exec(`BEGIN; SELECT pgbridge.notify('a', '1'); SAVEPOINT s; SELECT pgbridge.notify('a', 'undone'); ROLLBACK TO s;
		SELECT pgbridge.notify('b', '2'); SELECT pgbridge.notify('other', 'nobody'); SELECT pgbridge.notify('a', ''); SELECT pgbridge.notify('a', ''); COMMIT;`)
	w.exec(`SELECT pg_logical_emit_message(true, 'foreign', 'x'), pg_logical_emit_message(false, 'pgbridge.a', 'not transactional')`)
	w.exec(`BEGIN; SELECT pgbridge.notify('a', 'undone'); ROLLBACK;`)
	w.exec(`SELECT pgbridge.notify('a', 'last')`)
	all := w.await("last")
	if got, want := events(all), []string{"a 1", "b 2", "a ", "a ", "a last"}; !reflect.DeepEqual(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if got, want := gaps(all), []string{"a started", "b started"}; !reflect.DeepEqual(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
	seen := map[string]bool{}
	for _, m := range all {
		if _, err := parseID(m.id); err != nil || seen[m.id] {
			t.Errorf("message %d has the id %q: %v", m.sequence, m.id, err)
		}
		seen[m.id] = true
	}
	if n := r.logs.FilterMessage("carries durable events").Len(); n != 1 {
		t.Errorf("the log tells %d times how long the beginning took, want once", n)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// Another one goes on behind the last, with nothing twice and no gap.
	w.exec(`SELECT pgbridge.notify('a', 'meanwhile')`)
	w.run([]string{"a", "b"})
	if again := w.await("meanwhile"); len(again) != len(all)+1 {
		t.Errorf("%d messages after a restart, want %d", len(again), len(all)+1)
	}
}

// What anybody can write under our prefix is announced, and stops nothing.
func TestFeedAnnouncesWhatItCannotCarry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	r := w.run([]string{"a"})
	w.begun(1)
	w.exec(`SELECT pg_logical_emit_message(true, 'pgbridge:a', ''), pg_logical_emit_message(true, 'pgbridge:a', '\xffffffff'::bytea),
		pg_logical_emit_message(true, 'pgbridge:a', '\x00000002'::bytea || '[]'::bytea),
		pg_logical_emit_message(true, 'pgbridge:a', int4send(25) || '{"Nats-Expected-Stream":""}'::bytea),
		pg_logical_emit_message(true, 'pgbridge.a', repeat('x', 2000000)),
		pg_logical_emit_message(true, 'pgbridge.a', repeat('x', 1048576)),
		pg_logical_emit_message(true, 'pgbridge.' || repeat('y', 100), 'nobody'),
		pg_logical_emit_message(true, 'pgbridge.', 'nobody')`)
	w.exec(`SELECT pgbridge.notify('a', 'last')`)
	all := w.await("last")
	want := []string{"a started", "a overflow", "a overflow", "a overflow", "a overflow", "a overflow", "a overflow"}
	if got := gaps(all); !reflect.DeepEqual(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
	for _, m := range all[1 : len(all)-1] {
		if m.gap != nil && (m.gap.Dropped == nil || *m.gap.Dropped != 1) {
			t.Errorf("gap %s, want one of 1", m.payload)
		}
	}
	w.goesOnBehind(r, "pg_logical_emit_message(true, 'pgbridge.a', repeat('x', 2000000))", len(all))
}

// goesOnBehind sends what becomes a gap, behind so many messages, and wants a reader that
// comes later to go on from it.
func (w *world) goesOnBehind(r *replica, call string, before int) {
	w.t.Helper()
	w.exec("SELECT " + call)
	testenv.Wait(w.t, patience, "the gap", func() bool { return len(w.messages()) == before+1 })
	if err := r.stop(); err != nil {
		w.t.Fatal(err)
	}
	w.run([]string{"a"})
	w.exec(`SELECT pgbridge.notify('a', 'after')`)
	if again := w.await("after"); len(again) != before+2 {
		w.t.Errorf("%d messages, want %d", len(again), before+2)
	}
}

// A stream takes 64 KiB of headers, and no larger messages than its operator wants. An
// event over that is announced in its place, and what is behind it goes on. Where the limit
// is known nobody asks the stream: a refusal for each, and anybody could keep all channels
// waiting.
func TestFeedGoesOnBehindWhatTheStreamRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	r := w.run([]string{"a"})
	w.begun(1)
	const headers = `pgbridge.notify('a', 'x', jsonb_build_object('h', repeat('x', 70000)))`
	w.exec(`SELECT pgbridge.notify('a', '1'), ` + headers + `, pgbridge.notify('a', '2'), ` + headers + `, pgbridge.notify('a', '3')`)
	w.await("3")
	r.nothingWasRefused(t)
	w.limitSize(10_000) // which this reader learns by a refusal
	const payload = `pgbridge.notify('a', repeat('x', 10000))`
	w.exec(`SELECT ` + payload + `, pgbridge.notify('a', '4')`)
	w.await("4")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range r.logs.FilterMessage("event is too large or malformed, announced as a gap").All() {
		told += int(e.ContextMap()["events"].(int64))
	}
	if told != 3 {
		t.Errorf("the log tells of %d events that became gaps, want 3", told)
	}
	r = w.run([]string{"a"}) // which knows it
	w.exec(`SELECT ` + payload + `, pgbridge.notify('a', '5')`)
	all := w.await("5")
	r.nothingWasRefused(t)
	if got, want := events(all), []string{"a 1", "a 2", "a 3", "a 4", "a 5"}; !reflect.DeepEqual(got, want) {
		t.Errorf("events %.200q, want %q", got, want)
	}
	if got, want := gaps(all), []string{"a started", "a overflow", "a overflow", "a overflow", "a overflow"}; !reflect.DeepEqual(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
	w.goesOnBehind(r, headers, len(all))
}

// nothingWasRefused fails if the stream did not take a message. A new slot may have waited
// for the transactions of other tests.
func (r *replica) nothingWasRefused(t *testing.T) {
	t.Helper()
	for _, e := range r.logs.FilterMessage("retrying").All() {
		if text, _ := e.ContextMap()["error"].(string); strings.Contains(text, "API error") {
			t.Errorf("the stream refused something: %v", e.ContextMap())
		}
	}
}

// limitSize has the stream take no larger messages.
func (w *world) limitSize(size int32) {
	w.t.Helper()
	js, s := w.stream()
	config := s.CachedInfo().Config
	config.MaxMsgSize = size
	if _, err := js.UpdateStream(w.t.Context(), config); err != nil {
		w.t.Fatal(err)
	}
}

// The largest events that pgbridge.notify takes fit a message of NATS, with headers too
// and with the longest channel.
func TestFeedCarriesTheLargestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	long := strings.Repeat("c", 63)
	w.run([]string{"a", long})
	w.begun(2)
	limit := testenv.Value[int](t, w.url, "SELECT pgbridge.payload_limit()")
	const headers = `{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`
	w.exec(`SELECT pgbridge.notify('a', repeat('x', $1::int))`, limit)
	w.exec(`SELECT pgbridge.notify($2::text, repeat('x', $1::int - octet_length($3::text)), $3::text::jsonb)`, limit, long, headers)
	w.exec(`SELECT pgbridge.notify('a', 'last')`)
	all := w.await("last")
	if got := gaps(all); len(got) != 2 {
		t.Errorf("gaps %.200q, want those of the start alone", got)
	}
	want := []int{limit, limit - len(headers), len("last")}
	for i, m := range all[2:] {
		if len(m.payload) != want[i] {
			t.Errorf("event %d has %d bytes, want %d", i, len(m.payload), want[i])
		}
	}
}

func TestFeedTakesLargeTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	w.run([]string{"a"})
	w.begun(1)
	w.exec(fmt.Sprintf(`SELECT pgbridge.notify('a', repeat('x', 200) || i) FROM generate_series(1, %d) i`, testenv.Fewer(100_000)))
	w.exec(`SELECT pgbridge.notify('a', 'last')`)
	w.compare(w.await("last"))
}

func TestFeedFollowsItsChannels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	r := w.run([]string{"a"})
	w.begun(1)
	w.exec(`SELECT pgbridge.notify('b', 'too early'), pgbridge.notify('a', '1')`)
	w.await("1")
	r.SetRoutes(w.routes([]string{"a", "b"}))
	w.begun(3)
	w.exec(`SELECT pgbridge.notify('b', '2')`)
	w.await("2")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = w.run([]string{"a"}) // b is given up, and says nothing
	testenv.Wait(t, patience, "b to be given up", func() bool {
		return testenv.Value[bool](t, w.url, "SELECT channels = '{a}' FROM pgbridge.position")
	})
	w.exec(`SELECT pgbridge.notify('b', 'unheard'), pgbridge.notify('a', '3')`)
	before := w.await("3")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.run([]string{"a", "b"}) // and so begins with a gap
	w.begun(len(before) + 1)
	w.exec(`SELECT pgbridge.notify('b', '4')`)
	all := w.await("4")
	if got, want := events(all), []string{"a 1", "b 2", "a 3", "b 4"}; !reflect.DeepEqual(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if got, want := gaps(all), []string{"a started", "b started", "b started"}; !reflect.DeepEqual(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
}

func TestSlotNamesAreDifferent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 63)
	seen := map[string]string{}
	for _, prefix := range []string{"a", "A", "a.b", "a_b", "a-b", "a__b", "_41", "a_2eb", long, long + "y", strings.ToUpper(long), "_h", ""} {
		for _, oid := range []uint32{1, 4294967295} {
			name := SlotName(prefix, oid)
			key := fmt.Sprint(prefix, "/", oid)
			if other, taken := seen[name]; taken || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
				t.Errorf("slot of %s is %s (%s)", key, name, other)
			}
			seen[name] = key
		}
	}
}
