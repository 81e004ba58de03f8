package durable

import (
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Three replicas that all want the slot, while one after the other dies or freezes, and
// both servers die and lose connections.
func TestThreeReplicas(t *testing.T) {
	t.Parallel()
	pg, ns := dedicated(t), testenv.NATSProcess(t, "")
	w := newWorld(t, pg, ns.URL())
	replicas := w.spawnThree([]string{"a"})
	w.begun(1)
	tr := w.traffic(4)
	for i := range replicas {
		w.grown()
		replicas[i].Signal(t, syscall.SIGSTOP)
		w.grown()
		ns.Kill(t)
		ns.Start(t)
		w.grown()
		replicas[i].Signal(t, syscall.SIGCONT)
		w.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
		w.grown()
		replicas[i].Kill()
		replicas[i] = w.spawn([]string{"a"})
		pg.Kill(t)
		pg.Start(t)
		w.grown()
	}
	onlyStarted(t, w.settle(tr))
}

// Three replicas in turn: each loses its link to NATS with events on their way, and the
// next goes on. What was on its way from the first two arrives behind the third, the
// oldest last, and again while each of them has the slot once more: the stream takes
// none of it.
func TestLateMessagesOfTwoReplicas(t *testing.T) {
	t.Parallel()
	ns := testenv.NATS(t)
	w := newWorld(t, testenv.Postgres(t), ns.URL())
	const n = 3
	var leases [n]atomic.Bool
	var links [n]*testenv.Proxy
	var replicas [n]*replica
	for i := range n {
		links[i] = testenv.NewProxy(t, ns.Addr())
		far := *w
		far.nats = "nats://" + links[i].Addr()
		replicas[i] = far.run([]string{"a"}, far.patient, func(f *Feed) { f.Lease = leases[i].Load })
	}
	sent := 0
	send := func() {
		w.each(10, fmt.Sprintf("pgbridge.notify('a', 'event ' || (%d + i))", sent))
		sent += 10
	}
	stored := func() bool { return len(events(w.messages())) >= sent }
	for i := range 2 * n {
		holder, link := replicas[i%n], links[i%n]
		leases[i%n].Store(true)
		w.begun(1)
		send()
		testenv.Wait(t, patience, "what was sent", stored)
		if i%n == n-1 { // the third one; the first two hold something back
			for j := n - 2; j >= 0; j-- {
				links[j].Thaw()
				if err := replicas[j].NC.Flush(); err != nil {
					t.Fatal("the frozen connection broke:", err)
				}
				send()
				testenv.Wait(t, patience, "what was sent", stored)
			}
			leases[i%n].Store(false)
			continue
		}
		link.Freeze()
		before := holder.NC.Stats().OutMsgs
		send()
		testenv.Wait(t, patience, "the events to be on their way", func() bool { return holder.NC.Stats().OutMsgs >= before+10 })
		leases[i%n].Store(false)
	}
	leases[0].Store(true)
	w.exec("SELECT pgbridge.notify('a', 'the end')")
	all := w.await("the end")
	w.compare(all)
	onlyStarted(t, all)
}

// A slot that kept more than it may is invalidated. That is announced, and all that comes
// after is carried.
func TestSlotThatIsInvalidated(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"max_slot_wal_keep_size": "1MB"}})
	w := newWorld(t, pg, testenv.NATS(t).URL())
	r := w.three([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', '1')")
	before := w.await("1")
	r.stop(t)
	w.exec("SELECT pgbridge.notify('a', 'lost')")
	testenv.Wait(t, patience, "the slot to be invalidated", func() bool {
		w.exec("SELECT pg_logical_emit_message(true, 'other', ''), pg_switch_wal()")
		w.exec("CHECKPOINT")
		return testenv.Value[bool](t, w.url, "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name LIKE 'pgbridge%'")
	})
	if _, err := Check(t.Context(), w.connect(), "pgbridge", Limits{}); err == nil {
		t.Error("Check() does not tell of the lost slot")
	}
	w.three([]string{"a"})
	w.begun(len(before) + 1)
	w.exec("SELECT pgbridge.notify('a', '2')")
	all := w.await("2")
	if got, want := events(all), []string{"a 1", "a 2"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if got, want := gaps(all), []string{"a started", "a slot_lost"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
}

// What is on its way to NATS is not confirmed, however often the server is told that all
// is well, so whoever comes after a replica that dies then is given it again.
func TestNothingIsConfirmedThatIsNotStored(t *testing.T) {
	t.Parallel()
	ns := testenv.NATS(t)
	w := newWorld(t, dedicated(t), ns.URL())
	link := testenv.NewProxy(t, ns.Addr())
	far := *w
	far.nats = "nats://" + link.Addr()
	one := far.spawn([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', 'first')")
	w.await("first")
	link.Freeze()
	before := testenv.Value[string](t, w.url, "SELECT pg_current_wal_insert_lsn()::text")
	w.exec("SELECT pgbridge.notify('a', 'meanwhile ' || i) FROM generate_series(1, 10) i")
	const told = "SELECT coalesce(max(reply_time), '-infinity') FROM pg_stat_replication WHERE sent_lsn > $1::text::pg_lsn"
	for range 3 { // a second after each other: what was read is told of with the second at the latest
		last := testenv.Value[string](t, w.url, "SELECT ("+told+")::text", before)
		testenv.Wait(t, patience, "the reader's next status", func() bool {
			return testenv.Value[bool](t, w.url, "SELECT ("+told+") > $2::text::timestamptz", before, last)
		})
	}
	one.Kill()
	testenv.Wait(t, patience, "the slot to be free", func() bool {
		return testenv.Value[bool](t, w.url, "SELECT NOT active FROM pg_replication_slots WHERE slot_name LIKE 'pgbridge%'")
	})
	if n := testenv.Value[int](t, w.url, `SELECT count(*)::int FROM pg_replication_slots s, pg_logical_slot_peek_binary_changes(s.slot_name, NULL, NULL,
		'proto_version', '1', 'publication_names', 'pgbridge', 'messages', 'true') c WHERE s.slot_name LIKE 'pgbridge%' AND position('meanwhile '::bytea IN c.data) > 0`); n != 10 {
		t.Fatalf("the slot has %d events of 10 that are not stored", n)
	}
	w.spawn([]string{"a"})
	all := w.await("meanwhile 10")
	w.compare(all)
	onlyStarted(t, all)
}
