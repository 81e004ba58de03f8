package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

const patience = 60 * time.Second

// slot makes a database with a publication and a slot, and returns its URL.
func slot(t *testing.T, pg *testenv.PG) (url, name string) {
	t.Helper()
	url = pg.NewDatabase(t)
	name = testenv.Value[string](t, url, `SELECT 'wal_' || current_database()`)
	testenv.Exec(t, url, "CREATE PUBLICATION empty")
	testenv.Exec(t, url, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name)
	return url, name
}

func connect(t *testing.T, url string) *wal.Conn {
	t.Helper()
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := wal.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.WithoutCancel(t.Context())) })
	return c
}

// start reads the slot until the test ends or stop is called, handing each
// event to see.
func start(t *testing.T, url, name string, see func(*wal.Reader, wal.Event)) (r *wal.Reader, stop func() error) {
	t.Helper()
	r, err := connect(t, url).Start(t.Context(), wal.Config{
		Slot: name, Publication: "empty", MaxContent: 1 << 20,
		Want: func(prefix []byte) bool { return bytes.HasPrefix(prefix, []byte("pgbridge.")) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return r.Run(ctx, func(batch []wal.Event) error {
			for _, e := range batch {
				see(r, e)
			}
			return nil
		})
	})
	group.Go(func() error { return r.Report(ctx) })
	ended := false
	stop = func() error {
		if ended {
			return nil
		}
		ended = true
		cancel()
		err := group.Wait()
		r.Close()
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	t.Cleanup(func() { stop() })
	return r, stop
}

// awaitFree waits until nobody reads the slot.
func awaitFree(t *testing.T, url, name string) {
	t.Helper()
	testenv.Wait(t, patience, "the slot to be free", func() bool {
		return !testenv.Value[bool](t, url, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", name)
	})
}

const emit = "SELECT pg_logical_emit_message(true, 'pgbridge.%s', '%s');"

func TestReaderReadsWhatWasCommittedInOrder(t *testing.T) {
	t.Parallel()
	url, name := slot(t, testenv.Postgres(t))
	testenv.Exec(t, url, fmt.Sprintf(`BEGIN; `+emit+`
		SAVEPOINT a; `+emit+` ROLLBACK TO a; `+emit+`
		SAVEPOINT b; `+emit+` RELEASE b;
		SELECT pg_logical_emit_message(false, 'pgbridge.x', 'not transactional');
		SELECT pg_logical_emit_message(true, 'foreign', 'foreign'); COMMIT;`, "x", "1", "x", "undone", "x", "2", "y", "3"))
	testenv.Exec(t, url, `BEGIN; `+fmt.Sprintf(emit, "x", "undone")+` ROLLBACK;`)
	testenv.Exec(t, url, fmt.Sprintf(emit, "x", "")+fmt.Sprintf(emit, "x", "")) // equal and empty
	testenv.Exec(t, url, `SELECT pg_logical_emit_message(true, 'pgbridge.x', repeat('x', 1048577))`)
	testenv.Exec(t, url, fmt.Sprintf(emit, "x", "last"))

	read := func() (seen []string, events []wal.Event) {
		done := make(chan struct{})
		_, stop := start(t, url, name, func(_ *wal.Reader, e wal.Event) {
			if e.Kind != wal.KindMessage {
				return
			}
			events = append(events, e)
			seen = append(seen, fmt.Sprintf("%s %s %d", e.Prefix, e.Content, e.Size))
			if string(e.Content) == "last" {
				close(done)
			}
		})
		receive(t, done)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		awaitFree(t, url, name)
		return seen, events
	}
	want := "pgbridge.x 1 1, pgbridge.x 2 1, pgbridge.y 3 1, pgbridge.x  0, pgbridge.x  0, pgbridge.x  1048577, pgbridge.x last 4"
	seen, first := read()
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("read %s, want %s", got, want)
	}
	_, again := read() // nothing was confirmed
	for i := range first {
		if first[i].LSN != again[i].LSN || first[i].Commit != again[i].Commit || i > 0 && first[i].LSN <= first[i-1].LSN {
			t.Errorf("message %d lies at %s of %s, then at %s of %s", i, first[i].LSN, first[i].Commit, again[i].LSN, again[i].Commit)
		}
	}
}

func TestReaderIsNotGivenWhatItConfirmed(t *testing.T) {
	t.Parallel()
	url, name := slot(t, testenv.Postgres(t))
	testenv.Exec(t, url, fmt.Sprintf(emit, "x", "old"))
	confirmed := make(chan wal.LSN, 1000)
	_, stop := start(t, url, name, func(r *wal.Reader, e wal.Event) {
		if e.Kind == wal.KindCommit {
			r.Confirm(e.LSN)
			confirmed <- e.LSN
		}
	})
	receive(t, confirmed)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	awaitFree(t, url, name)
	testenv.Exec(t, url, fmt.Sprintf(emit, "x", "new"))
	events := make(chan wal.Event, 1000)
	start(t, url, name, func(_ *wal.Reader, e wal.Event) {
		if e.Kind == wal.KindMessage {
			events <- e
		}
	})
	if e := receive(t, events); string(e.Content) != "new" {
		t.Errorf("read %q first, want new", e.Content)
	}
}

// An idle slot must not keep what other databases write.
func TestReaderConfirmsWhileIdle(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	url, name := slot(t, pg)
	start(t, url, name, func(r *wal.Reader, e wal.Event) {
		if e.Kind != wal.KindMessage {
			r.Confirm(e.LSN)
		}
	})
	other := pg.NewDatabase(t)
	testenv.Exec(t, other, "CREATE TABLE t AS SELECT generate_series(1, 100000)")
	written := testenv.Value[string](t, other, "SELECT pg_current_wal_lsn()::text")
	testenv.Wait(t, patience, "the slot to follow", func() bool {
		return testenv.Value[bool](t, url, "SELECT confirmed_flush_lsn >= $2::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", name, written)
	})
}

// While the caller stands still, as it does when NATS is away, the server must
// not end the connection, and must hear nothing that is not so. The database's time
// limits, which PostgreSQL 17 and newer have for transactions, are for others.
func TestReaderLivesWhileNothingIsRead(t *testing.T) {
	t.Parallel()
	url, name := slot(t, testenv.Postgres(t))
	testenv.Exec(t, url, `DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT s.name FROM pg_settings s WHERE s.name IN ('transaction_timeout', 'idle_session_timeout') LOOP
			EXECUTE format('ALTER DATABASE %I SET %I = 3000', current_database(), name);
		END LOOP; END $$`)
	stands, goOn := make(chan struct{}), make(chan struct{})
	first := true
	last := make(chan struct{})
	_, _ = start(t, url, name, func(_ *wal.Reader, e wal.Event) {
		if first {
			first = false
			close(stands)
			<-goOn
		}
		if string(e.Content) == "last" {
			close(last)
		}
	})
	testenv.Exec(t, url, `SELECT pg_logical_emit_message(true, 'pgbridge.x', repeat('x', 1000000)) FROM generate_series(1, 30)`)
	receive(t, stands)
	began := time.Now()
	testenv.Wait(t, patience, "more than wal_sender_timeout", func() bool { return time.Since(began) > 8*time.Second })
	close(goOn)
	testenv.Exec(t, url, fmt.Sprintf(emit, "x", "last"))
	receive(t, last)
}

func TestStartSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	url, name := slot(t, testenv.Postgres(t))
	start(t, url, name, func(*wal.Reader, wal.Event) {})
	for want, c := range map[string]wal.Config{
		"55006": {Slot: name, Publication: "empty"},
		"42704": {Slot: "not_there", Publication: "empty"},
	} {
		_, err := connect(t, url).Start(t.Context(), c)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("Start(%s) = %v, want SQLSTATE %s", c.Slot, err, want)
		}
	}
}

func TestOwnerAfterAPromotion(t *testing.T) {
	t.Parallel()
	primary := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	before, err := connect(t, primary.URL()).Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	standby := testenv.Standby(t, primary)
	if !testenv.Value[bool](t, standby.URL(), "SELECT pg_promote()") {
		t.Fatal("the standby was not promoted")
	}
	after, err := connect(t, standby.URL()).Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.ID != after.ID || before.Timeline != 1 || after.Timeline != 2 {
		t.Fatalf("identified %+v, then %+v", before, after)
	}
	if old, now := after.Owner(before.Flushed-1), after.Owner(after.Flushed); old != 1 || now != 2 {
		t.Errorf("timelines of an old and a new position = %d, %d, want 1, 2", old, now)
	}
	if after.Knows(3) || !after.Knows(1) || before.Knows(2) {
		t.Error("a server knows the timelines that led to its own, and no other")
	}
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}
