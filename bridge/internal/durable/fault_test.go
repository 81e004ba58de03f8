package durable

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// traffic writes events with a ledger row each, in the same transaction, from
// several sessions, with savepoints, rollbacks, prepared transactions and equal
// payloads, until it is stopped.
type traffic struct {
	w    *world
	stop context.CancelFunc
	done sync.WaitGroup
}

func (w *world) traffic(writers int) *traffic {
	w.t.Helper()
	w.exec("CREATE TABLE IF NOT EXISTS ledger (payload text)")
	ctx, stop := context.WithCancel(context.Background())
	tr := &traffic{w: w, stop: stop}
	for i := range writers {
		tr.done.Go(func() { w.write(ctx, i) })
	}
	w.t.Cleanup(tr.end)
	return tr
}

// end stops the writers, and finishes what they left prepared.
func (tr *traffic) end() {
	tr.stop()
	tr.done.Wait()
}

func (w *world) write(ctx context.Context, writer int) {
	random := rand.New(rand.NewPCG(uint64(writer), 1))
	for n := 0; ctx.Err() == nil; {
		conn, err := pgx.Connect(ctx, w.url)
		if err != nil {
			continue // it is away just now
		}
		for err == nil && ctx.Err() == nil {
			n++
			_, err = conn.PgConn().Exec(ctx, transaction(random, fmt.Sprintf("w%d.%d", writer, n))).ReadAll()
		}
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		conn.Close(closing)
		cancel()
	}
}

// transaction is one transaction's SQL.
func transaction(random *rand.Rand, name string) string {
	var b strings.Builder
	b.WriteString("BEGIN;")
	for i := range 1 + random.IntN(5) {
		payload := fmt.Sprintf("%s.%d", name, i)
		if random.IntN(10) == 0 {
			payload = "equal"
		}
		one := fmt.Sprintf("SELECT pgbridge.notify('a', '%s'); INSERT INTO ledger VALUES ('%s');", payload, payload)
		switch random.IntN(4) {
		case 0:
			b.WriteString("SAVEPOINT s;" + one + "ROLLBACK TO s;")
		case 1:
			b.WriteString("SAVEPOINT s;" + one + "RELEASE s;")
		default:
			b.WriteString(one)
		}
	}
	switch random.IntN(8) {
	case 0:
		b.WriteString("ROLLBACK;")
	case 1:
		b.WriteString("PREPARE TRANSACTION '" + name + "'; COMMIT PREPARED '" + name + "';")
	default:
		b.WriteString("COMMIT;")
	}
	return b.String()
}

// settle ends the traffic and compares the stream with the oracle, and the
// oracle with the ledger.
func (w *world) settle(tr *traffic) []message {
	w.t.Helper()
	tr.end()
	for _, gid := range testenv.Value[[]string](w.t, w.url, "SELECT coalesce(array_agg(gid), '{}') FROM pg_prepared_xacts WHERE database = current_database()") {
		w.exec("COMMIT PREPARED '" + gid + "'")
	}
	w.exec("SELECT pgbridge.notify('a', 'the end')")
	all := w.await("the end")
	w.compare(all)
	sent := w.committed()
	sent = sent[:len(sent)-1]
	for i := range sent {
		sent[i] = strings.TrimPrefix(sent[i], "a ")
	}
	slices.Sort(sent)
	if ledger := testenv.Value[[]string](w.t, w.url, "SELECT coalesce(array_agg(payload ORDER BY payload COLLATE \"C\"), '{}') FROM ledger"); !slices.Equal(sent, ledger) {
		w.t.Fatalf("the oracle has %d events, the ledger %d", len(sent), len(ledger))
	}
	return all
}

// grown waits until the stream has more messages than now.
func (w *world) grown() {
	w.t.Helper()
	var before, now uint64
	testenv.Wait(w.t, patience, "more events", func() bool {
		now = w.lastSequence()
		if before == 0 {
			before = now
		}
		return now > before && before > 0
	})
}

// lastSequence is 0 where the stream cannot be asked.
func (w *world) lastSequence() uint64 {
	nc, err := nats.Connect(w.nats)
	if err != nil {
		return 0
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, streamName)
	if err != nil {
		return 0
	}
	return s.CachedInfo().State.LastSeq
}

func onlyStarted(t *testing.T, all []message) {
	t.Helper()
	if got := gaps(all); !slices.Equal(got, []string{"a started"}) {
		t.Errorf("gaps %q, want only the first", got)
	}
}

// A process that is killed anywhere between reading, publishing, the
// acknowledgement and its confirmation loses and repeats nothing.
func TestKilledReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	one := w.spawn([]string{"a"})
	w.begun(1)
	tr := w.traffic(4)
	for range 8 {
		w.grown()
		one.Kill()
		one = w.spawn([]string{"a"})
	}
	onlyStarted(t, w.settle(tr))
}

// Two replicas: one dies or freezes, the other goes on; a frozen one that wakes
// up writes nothing.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	replicas := []*testenv.Child{w.spawn([]string{"a"})}
	w.begun(1)
	replicas = append(replicas, w.spawn([]string{"a"}))
	tr := w.traffic(4)
	for round := range 4 {
		holder := round % 2
		w.grown()
		replicas[holder].Signal(t, syscall.SIGSTOP)
		w.grown()
		w.grown()
		replicas[holder].Signal(t, syscall.SIGCONT)
		w.grown()
		replicas[1-holder].Kill()
		w.grown()
		replicas[1-holder] = w.spawn([]string{"a"})
	}
	onlyStarted(t, w.settle(tr))
}

func dedicated(t *testing.T) *testenv.PG {
	t.Helper()
	return testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"max_prepared_transactions": "10"}})
}

func TestServersThatDie(t *testing.T) {
	t.Parallel()
	pg, ns := dedicated(t), testenv.NATSProcess(t, "")
	w := newWorld(t, pg, ns.URL())
	r := w.three([]string{"a"})
	w.begun(1)
	tr := w.traffic(4)
	for round := range 9 {
		w.grown()
		switch round % 3 {
		case 0:
			ns.Kill(t)
			ns.Start(t)
		case 1:
			pg.Kill(t)
			pg.Start(t)
		case 2:
			w.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
		}
		w.grown()
	}
	onlyStarted(t, w.settle(tr))
	if !slices.ContainsFunc(r, func(one *replica) bool { return one.Problem.Current() == "" }) {
		t.Errorf("problem %q after all is well", r[0].Problem.Current())
	}
}

func TestLinksThatBreak(t *testing.T) {
	t.Parallel()
	pg, ns := dedicated(t), testenv.NATS(t)
	w := newWorld(t, pg, ns.URL())
	pgLink, natsLink := testenv.NewProxy(t, pg.Addr()), testenv.NewProxy(t, ns.Addr())
	far := *w
	far.url, far.nats = pgLink.Reroute(t, w.url), "nats://"+natsLink.Addr()
	far.three([]string{"a"})
	w.begun(1)
	tr := w.traffic(4)
	for round := range 8 {
		link := []*testenv.Proxy{pgLink, natsLink}[round%2]
		w.grown()
		if round < 4 {
			link.Cut()
		} else {
			link.Freeze()
			stands := w.lastSequence()
			testenv.Wait(t, patience, "the stream to stand still", func() bool {
				before := stands
				stands = w.lastSequence()
				return before == stands
			})
			link.Thaw()
		}
		w.grown()
	}
	onlyStarted(t, w.settle(tr))
}

// A slot that went away is announced, and all that comes after is carried.
func TestSlotThatIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	r := w.three([]string{"a", "b"})
	w.begun(2)
	w.exec("SELECT pgbridge.notify('a', '1')")
	before := w.await("1")
	r.stop(t)
	w.dropSlot()
	w.exec("SELECT pgbridge.notify('a', 'lost')")
	w.three([]string{"a", "b"})
	w.begun(len(before) + 2)
	w.exec("SELECT pgbridge.notify('a', '2')")
	all := w.await("2")
	if got, want := gaps(all), []string{"a started", "b started", "a slot_lost", "b slot_lost"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
	if got, want := events(all), []string{"a 1", "a 2"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	for _, m := range all[len(before) : len(before)+2] {
		if m.gap == nil || m.gap.Since == nil || !m.gap.Since.Before(m.gap.Until) {
			t.Errorf("gap %s, want one between two moments", m.payload)
		}
	}
}

func (w *world) dropSlot() {
	w.t.Helper()
	testenv.Wait(w.t, patience, "the slot to be free", func() bool {
		return testenv.Value[bool](w.t, w.url, "SELECT NOT active FROM pg_replication_slots WHERE slot_name LIKE 'pgbridge%'")
	})
	w.exec("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'pgbridge%'")
}

// A publication that was dropped makes a slot useless on some versions. Another
// slot is made then, and what was between is announced.
func TestPublicationThatIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	r := w.three([]string{"a"})
	w.begun(1)
	w.exec("DROP PUBLICATION pgbridge; CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
	w.exec("CREATE PUBLICATION pgbridge; INSERT INTO t VALUES (2)")
	w.exec("SELECT pgbridge.notify('a', 'after')")
	var all []message
	testenv.Wait(t, patience, "an event that a slot keeps", func() bool { // a gap may come from the old one
		w.exec("SELECT pgbridge.notify('a', 'last')")
		all = w.messages()
		return slices.Contains(events(all), "a last")
	})
	if got := gaps(all); !slices.Contains(got, "a slot_lost") && !slices.Contains(events(all), "a after") {
		t.Errorf("events %q, gaps %q: an event is missing without a gap", events(all), got)
	}
	if testenv.Value[int](t, w.url, "SELECT current_setting('server_version_num')::int") >= 180000 {
		return // it reads on
	}
	// Two that find it at the same moment both say so.
	lost := slices.Compact(gaps(all))
	if n := r.logged("replication slot is lost and made anew"); n < 1 || n > 2 || !slices.Equal(lost, []string{"a started", "a slot_lost"}) {
		t.Errorf("gaps %q; the slot was made anew %d times, want once or twice", gaps(all), n)
	}
}

// stream gives access to JetStream's side.
func (w *world) stream() (jetstream.JetStream, jetstream.Stream) {
	w.t.Helper()
	nc, err := nats.Connect(w.nats)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := js.Stream(w.t.Context(), streamName)
	if err != nil {
		w.t.Fatal(err)
	}
	return js, s
}

// What expired or was purged is not published again: the database remembers how
// far the stream came.
func TestStreamThatIsPurged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	one := w.spawn([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', '1'); SELECT pgbridge.notify('a', '2')")
	all := w.await("2")
	testenv.Wait(t, patience, "the position to be written", func() bool {
		return testenv.Value[int64](t, w.url, "SELECT last_sequence FROM pgbridge.position") == int64(all[len(all)-1].sequence)
	})
	one.Kill()
	_, s := w.stream()
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.three([]string{"a"})
	w.exec("SELECT pgbridge.notify('a', '3')")
	if got := w.await("3"); len(got) != 1 {
		t.Errorf("%d messages after a purge, want the new one alone: %v", len(got), got)
	}
}

// A stream that was deleted and made anew lost what it had acknowledged: that is
// announced, and what the slot still has is published again.
func TestStreamThatIsMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	r := w.three([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', '1')")
	w.await("1")
	testenv.Wait(t, patience, "the position to be written", func() bool {
		return testenv.Value[int64](t, w.url, "SELECT last_sequence FROM pgbridge.position") == 2
	})
	js, _ := w.stream()
	if err := js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
	w.exec("SELECT pgbridge.notify('a', '2')")
	all := w.await("2")
	if got := gaps(all); !slices.Equal(got, []string{"a nats_unavailable"}) {
		t.Errorf("gaps %q, want one that tells of the loss", got)
	}
	r.stop(t)
}

// Somebody who publishes into the stream is noticed, and costs some time and nothing else:
// while events come, behind the last one, while nobody reads the slot, and while events of
// his are compared with the log.
func TestStreamThatSomebodyWritesTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	r := w.run([]string{"a"})
	w.begun(1)
	js, _ := w.stream()
	forge := func(header ...string) {
		m := nats.NewMsg("pgbridge.event.a")
		m.Data = []byte("foreign")
		if len(header) > 0 {
			m.Header.Set(event.HeaderID, header[0])
		}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	forge()
	w.exec("SELECT pgbridge.notify('a', '1')")
	w.await("1")
	forge("no id of ours")
	forge()
	w.exec("SELECT pgbridge.notify('a', '2'); SELECT pgbridge.notify('a', '3')")
	w.await("3")
	forge()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.exec("SELECT pgbridge.notify('a', '4')")
	for range 200 { // more than are read at a time
		forge()
	}
	r = w.run([]string{"a"}, func(f *Feed) { f.ConfirmDelay = time.Hour }) // so that the next one has something to compare
	w.await("4")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	forge()
	w.run([]string{"a"}, func(f *Feed) { f.comparing = true })
	w.exec("SELECT pgbridge.notify('a', '5')")
	var ours []message
	for _, m := range w.await("5") {
		if m.payload != "foreign" {
			ours = append(ours, m)
		}
	}
	if got, want := events(ours), w.committed(); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if got := gaps(ours); !slices.Equal(got, []string{"a started"}) {
		t.Errorf("gaps %q, want the one of the beginning", got)
	}
}
