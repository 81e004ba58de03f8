package control

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const patience = 60 * time.Second

// newControl is one on a database of its own, with nobody that listens.
func newControl(t *testing.T) (c *Control, url string) {
	t.Helper()
	url = testenv.Postgres(t).NewDatabase(t)
	settings, err := postgres.Parse(url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	wanted, l := wait.NewSignal(), lease.New()
	seq := &sequence.Sequencer{
		Replica: "r", Marker: "marker", Lease: l, Now: time.Now, WantMarker: wanted.Raise, Core: queue.New(1 << 20), Stream: queue.New(1 << 20),
	}
	seq.SetChannels(nil, event.NewCounters)
	some := func() *problem.Problem { return problem.New(part.Control, error.Error) }
	return &Control{
		Settings: settings, Events: testenv.NATS(t).Connect(t), Seq: seq, Lease: l, Log: zap.NewNop(), Channel: "marker", Key: LockKey("p"),
		Wanted: wanted, Doubt: wait.NewSignal(), Moved: wait.NewSignal(), Leave: wait.NewSignal(), Astray: wait.NewSignal(), Failed: func() {}, Relocated: func() {},
		Problem: some(), Late: some(), Foreign: some(), Apart: some(),
		Others: func(context.Context, []string) map[string]string { return nil }, Elsewhere: func(string) string { return "" },
	}, url
}

// What the database has for others, such as a time limit, would have a replica lose the
// lock, and events with it, at a busy moment.
func TestSessionHasItsOwnSettings(t *testing.T) {
	t.Parallel()
	c, url := newControl(t)
	testenv.Exec(t, url, `DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET statement_timeout = 10000', current_database());
		EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
		EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database());
		EXECUTE format('ALTER DATABASE %I SET datestyle = "SQL, DMY"', current_database());
	END $$`)
	conn, _, err := c.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var limit string
	if err := conn.QueryRow(t.Context(), "SHOW statement_timeout").Scan(&limit); err != nil || limit != "0" {
		t.Errorf("statement_timeout is %q (%v), want none", limit, err)
	}
	var modes string
	const ask = "SELECT current_setting('transaction_read_only') || ', ' || current_setting('transaction_isolation')"
	if err := conn.QueryRow(t.Context(), ask).Scan(&modes); err != nil || modes != "off, read committed" {
		t.Errorf("transactions are %s (%v), want those of PostgreSQL itself", modes, err)
	}
	s := session{Control: c, conn: conn}
	if err := s.lookAtAges(t.Context()); err != nil {
		t.Errorf("times cannot be read: %v", err)
	}
}

// A marker that was only sent proves nothing: it may never come back.
func TestSessionIsProvedByTheReturnOfItsMarker(t *testing.T) {
	t.Parallel()
	c, url := newControl(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, "LISTEN marker"); err != nil {
		t.Fatal(err)
	}
	var delivered atomic.Bool
	proved, ended := make(chan bool, 1), make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	go func() {
		ended <- c.session(running, func() {
			select {
			case proved <- delivered.Load():
			default:
			}
		})
	}()
	defer stop()
	var last *pgconn.Notification
	for range 2 { // when the second was sent, the first was committed
		c.Wanted.Raise()
		if last, err = conn.WaitForNotification(ctx); err != nil {
			t.Fatal(err)
		}
	}
	delivered.Store(true)
	c.Seq.Notification(last.Channel, last.Payload, int(last.PID))
	if after := <-proved; !after {
		t.Error("proved before a marker came back")
	}
	stop()
	<-ended
}

// That another replica held the lock before this one says nothing once this one has
// lost it again: until the next holder is seen, nobody is known to publish.
func TestHolderBeforeIsForgotten(t *testing.T) {
	t.Parallel()
	c, _ := newControl(t)
	c.rival.Store(time.Now().Add(time.Hour).UnixNano())
	if !c.AnotherHolds() {
		t.Fatal("AnotherHolds() = false, though another replica was seen to")
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- c.session(ctx, func() {}) }()
	testenv.Wait(t, patience, "the lock", c.Seq.AwaitsMarker)
	if c.AnotherHolds() {
		t.Error("AnotherHolds() = true of a replica that has taken the lock itself")
	}
	stop()
	<-ended
}

// Whoever holds the lock is followed by a replica that would leave it to another, too:
// what it does not follow it cannot go on with.
func TestHolderIsFollowedByWhoDefers(t *testing.T) {
	t.Parallel()
	c, url := newControl(t)
	holder, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock($1), pg_advisory_lock_shared($1 + $2)", c.Key, int64(wholes)); err != nil {
		t.Fatal(err)
	}
	c.deferring = time.Now().Add(time.Hour)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- c.session(ctx, func() {}) }()
	testenv.Wait(t, patience/2, "the holder to be looked at", c.AnotherHolds)
	stop()
	<-ended
}

// What answers may be no PostgreSQL, and who shows it writes it as JSON.
func TestUsageThatIsNone(t *testing.T) {
	t.Parallel()
	var c Control
	c.sawUsage(0.25)
	for _, said := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -0.5, 1e300} {
		c.sawUsage(said)
		if usage, known := c.QueueUsage(); usage != 0.25 || !known {
			t.Errorf("after %v the queue's usage is %v", said, usage)
		}
	}
}
