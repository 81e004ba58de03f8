package durable

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestWALClockKnowsTheAgeOfThePlace(t *testing.T) {
	t.Parallel()
	var c walClock
	begin := time.Now()
	look := func(second int, end, confirmed wal.LSN, want time.Duration) {
		t.Helper()
		if got := c.behind(end, confirmed, begin.Add(time.Duration(second)*time.Second)); got != want {
			t.Errorf("after %d s behind() = %s, want %s", second, got, want)
		}
	}
	look(0, 100, 100, 0)
	look(1, 200, 100, 0)
	look(2, 200, 100, time.Second)
	look(3, 300, 100, 2*time.Second)
	look(4, 300, 200, time.Second)
	look(5, 300, 300, 0)
	for i := range 10 * maxSamples {
		c.behind(wal.LSN(1000+i), 300, begin.Add(time.Duration(10+i)*time.Second))
	}
	look(10+10*maxSamples, 1<<30, 300, 10*maxSamples*time.Second)
	if len(c.samples) > maxSamples {
		t.Errorf("%d samples, want at most %d", len(c.samples), maxSamples)
	}
}

func TestLimitsOfTheLag(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limits Limits
		want   string
	}{
		{Limits{}, ""},
		{Limits{Bytes: 100, Time: time.Minute}, ""},
		{Limits{Bytes: 99}, "max_lag_bytes"},
		{Limits{Time: 59 * time.Second}, "max_lag_time"},
	} {
		err := tt.limits.exceeded(100, time.Minute)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.limits, err, tt.want)
		}
	}
}

func TestConfirmationWaits(t *testing.T) {
	t.Parallel()
	var confirmed []wal.LSN
	c := confirmation{delay: 64 * time.Second, confirm: func(l wal.LSN) { confirmed = append(confirmed, l) }}
	begin := time.Now()
	at := func(second float64) time.Time { return begin.Add(time.Duration(second * float64(time.Second))) }
	c.safe(1, at(0))
	c.safe(2, at(0.5))
	c.safe(3, at(10))
	c.pass(at(64.5)) // that of 0.5 s is not old enough, and waits with it
	if confirmed != nil {
		t.Errorf("confirmed %v too early", confirmed)
	}
	c.pass(at(65))
	c.pass(at(74))
	c.pass(at(75))
	if want := []wal.LSN{2, 3}; !slices.Equal(confirmed, want) {
		t.Errorf("confirmed %v, want %v", confirmed, want)
	}
	for i := range 1000 {
		c.safe(wal.LSN(10+i), at(100+float64(i)/100))
	}
	if len(c.waiting) > confirmSteps {
		t.Errorf("%d positions wait", len(c.waiting))
	}
	c.delay = 0
	c.safe(9999, at(200))
	if confirmed[len(confirmed)-1] != 9999 {
		t.Error("without a delay nothing is confirmed at once")
	}
}

// A slot that falls behind makes the replica not ready, also while NATS is away.
func TestLagOverTheLimit(t *testing.T) {
	t.Parallel()
	ns := testenv.NATS(t)
	w := newWorld(t, testenv.DedicatedPostgres(t, testenv.PGOptions{}), ns.URL())
	r := w.run([]string{"a"}, func(f *Feed) { f.Limits.Bytes = 1 << 20 })
	w.begun(1)
	ns.Stop(t)
	w.exec(`SELECT pgbridge.notify('a', 'behind this one nothing is confirmed')`)
	w.exec(`SELECT pgbridge.notify('a', repeat('x', 100000)) FROM generate_series(1, 20)`)
	testenv.Wait(t, patience, "the lag to be told", func() bool { return strings.Contains(r.Late.Current(), "max_lag_bytes") })
	if bytes, _ := r.Lag(); bytes <= 1<<20 {
		t.Errorf("the lag is %d bytes, which is not over the limit", bytes)
	}
	conn := w.connect()
	if found, err := Check(t.Context(), conn, "pgbridge", r.Limits); err == nil || !strings.Contains(err.Error(), "max_lag_bytes") {
		t.Errorf("Check() = %q, %v, want the limit", found, err)
	}
	ns.Start(t)
	testenv.Wait(t, patience, "the lag to end", func() bool { return r.Late.Current() == "" && r.Problem.Current() == "" })
	if found, err := Check(t.Context(), conn, "pgbridge", r.Limits); err != nil || !strings.Contains(found, "read by backend ") {
		t.Errorf("Check() = %q, %v", found, err)
	}
}

// Somebody else's slot of our name is named, and left alone.
func TestForeignSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	conn := w.connect()
	if found, err := Check(t.Context(), conn, "pgbridge", Limits{}); err != nil || !strings.Contains(found, "not there yet") {
		t.Errorf("Check() = %q, %v without a slot", found, err)
	}
	name, err := slotNameIn(t.Context(), conn, "pgbridge")
	if err != nil {
		t.Fatal(err)
	}
	w.exec("SELECT pg_create_logical_replication_slot($1, 'test_decoding')", name)
	r := w.run([]string{"a"})
	testenv.Wait(t, patience, "the slot to be named", func() bool { return strings.Contains(r.Problem.Current(), name+" is not pgbridge's") })
	if found, err := Check(t.Context(), conn, "pgbridge", Limits{}); err == nil {
		t.Errorf("Check() = %q, want another's slot", found)
	}
	if _, err := Drop(t.Context(), conn, "pgbridge"); err == nil {
		t.Error("Drop() took another's slot")
	}
	w.exec("SELECT pg_drop_replication_slot($1)", name)
	w.begun(1)
}

// Slots of other prefixes take room from this one's, its own does not.
func TestRoomForASlot(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"max_replication_slots": "1"}})
	conn, err := pgx.Connect(t.Context(), pg.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	own, err := slotNameIn(t.Context(), conn, "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckRoom(t.Context(), conn, "one"); err != nil {
		t.Errorf("CheckRoom() = %v on a server without slots", err)
	}
	if _, err := conn.Exec(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", own); err != nil {
		t.Fatal(err)
	}
	if err := CheckRoom(t.Context(), conn, "one"); err != nil {
		t.Errorf("CheckRoom() = %v with its own slot", err)
	}
	if err := CheckRoom(t.Context(), conn, "another"); err == nil || !strings.Contains(err.Error(), "max_replication_slots") {
		t.Errorf("CheckRoom() = %v where another prefix has the last slot", err)
	}
}

// A slot waits for every transaction that runs. A prepared one can be forgotten,
// so it is named, by the next of three replicas too when the one that waits is cut off;
// what it sent is carried when it ends.
func TestTransactionsThatANewSlotWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	w.exec("CREATE TABLE t (i int)")
	w.exec("BEGIN; SELECT pgbridge.notify('a', 'prepared'); INSERT INTO t VALUES (1); PREPARE TRANSACTION 'forgotten'")
	r := trio{w.run([]string{"a"}), w.run([]string{"a"}), w.run([]string{"a"})}
	waiting := func() string {
		return testenv.Value[string](t, w.url, "SELECT coalesce(max(active_pid), 0)::text FROM pg_replication_slots WHERE slot_name LIKE 'pgbridge%'")
	}
	named := func() bool { return r.tells("waits for the prepared transaction 'forgotten'") }
	testenv.Wait(t, patience, "the prepared transaction to be named", named)
	first := waiting()
	w.exec("SELECT pg_terminate_backend($1::text::int)", first)
	testenv.Wait(t, patience, "another one to wait", func() bool { next := waiting(); return next != "0" && next != first })
	for _, one := range r {
		one.Problem.Assume("") // what the first one said
	}
	testenv.Wait(t, patience, "the prepared transaction to be named", named)
	session := w.connect()
	if _, err := session.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Exec(t.Context(), "INSERT INTO t VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	w.exec("COMMIT PREPARED 'forgotten'")
	testenv.Wait(t, patience, "the open transaction to be named", func() bool { return r.tells("waits for the transaction of the user") })
	if _, err := session.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', 'after')")
	w.await("after")
	if !slices.ContainsFunc(r, func(one *replica) bool { return one.Problem.Current() == "" }) {
		t.Errorf("problem %q after the slot was made", r[0].Problem.Current())
	}
}

// A replica that loses the lease while it waits leaves no session behind that
// would hold the slot for it.
func TestNewSlotIsGivenUpWithTheLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	w.exec("CREATE TABLE t (i int)")
	w.exec("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'forgotten'")
	var lease atomic.Bool
	lease.Store(true)
	r := w.run([]string{"a"}, func(f *Feed) { f.Lease = lease.Load })
	testenv.Wait(t, patience, "the prepared transaction to be named", func() bool { return strings.Contains(r.Problem.Current(), "'forgotten'") })
	lease.Store(false)
	testenv.Wait(t, patience, "the slot to be given up", func() bool {
		return testenv.Value[bool](t, w.url, "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name LIKE 'pgbridge%')")
	})
	w.exec("ROLLBACK PREPARED 'forgotten'")
	w.run([]string{"a"})
	w.begun(1)
}

// PostgreSQL 17 and newer send nothing while a standby that they are told to wait
// for is away. That is named, and over when nobody is waited for; older ones know
// no such setting.
func TestStandbyThatIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.DedicatedPostgres(t, testenv.PGOptions{}), testenv.NATS(t).URL())
	r := w.run([]string{"a"})
	w.begun(1)
	w.exec("SELECT pg_create_physical_replication_slot('away')")
	if testenv.Value[int](t, w.url, "SELECT current_setting('server_version_num')::int") >= 170000 {
		w.exec("ALTER SYSTEM SET synchronized_standby_slots = 'away'")
		w.exec("SELECT pg_reload_conf()")
		testenv.Wait(t, patience, "the standby to be named", func() bool { return strings.Contains(r.Late.Current(), "connected: away") })
		if _, err := Check(t.Context(), w.connect(), "pgbridge", Limits{}); err == nil {
			t.Error("Check() does not name the standby")
		}
		w.exec("SELECT pgbridge.notify('a', 'waits')")
		w.exec("ALTER SYSTEM RESET synchronized_standby_slots")
		w.exec("SELECT pg_reload_conf()")
		w.await("waits")
	}
	testenv.Wait(t, patience, "nobody to be waited for", func() bool { return r.Late.Current() == "" })
}
