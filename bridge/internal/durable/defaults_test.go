package durable

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// What a database, a role or a server has for the sessions of others keeps nothing from
// being carried.
func TestDefaultsOfTheDatabaseAreNotOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	writer, other := w.connect(), w.connect() // sessions that have begun already
	w.exec(`DO $$ DECLARE setting text; BEGIN FOREACH setting IN ARRAY ARRAY['default_transaction_read_only = on', 'default_transaction_isolation = serializable',
			'default_transaction_deferrable = on', 'datestyle = "SQL, DMY"', 'intervalstyle = sql_standard', 'bytea_output = escape', 'extra_float_digits = -15',
			'standard_conforming_strings = off', 'quote_all_identifiers = on', 'row_security = off', 'synchronous_commit = off', 'role = pg_monitor'] LOOP
		EXECUTE format('ALTER DATABASE %I SET ', current_database()) || setting; END LOOP; END $$`)
	// A deferrable transaction waits for this one.
	if _, err := other.Exec(t.Context(), "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE; SELECT count(*) FROM pg_class"); err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{"first", "second"} {
		feed := w.run([]string{"a"})
		testenv.Wait(t, patience, "the channel's events to be kept", func() bool { return feed.Unkept() == "" })
		if _, err := writer.Exec(t.Context(), "SELECT pgbridge.notify('a', $1::text)", payload); err != nil {
			t.Fatal(err)
		}
		all := w.await(payload)
		if err := feed.stop(); err != nil {
			t.Fatal(err)
		}
		for _, said := range feed.logs.FilterMessage("retrying").All() {
			if cause := fmt.Sprint(said.ContextMap()["cause"]); !strings.Contains(cause, "waits for the transaction") { // of another test's
				t.Errorf("it had to try again: %s", cause)
			}
		}
		var id string
		if err := writer.QueryRow(t.Context(), "SELECT id FROM pgbridge.position").Scan(&id); err != nil || id != all[len(all)-1].id {
			t.Errorf("the position is %q (%v), want that of the last event", id, err)
		}
	}
}

// A replica that may read the slot and not write how far it is does not say that it is
// ready, also while there is nothing to carry.
func TestPositionThatCannotBeWrittenIsToldOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	feed := w.run([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', 'first')")
	w.await("first")
	if err := feed.stop(); err != nil {
		t.Fatal(err)
	}
	w.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE insufficient_privilege; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON pgbridge.position FOR EACH ROW EXECUTE FUNCTION refuse()`)
	feed = w.run([]string{"a"})
	testenv.Wait(t, patience, "the fault to be told of", func() bool { return strings.Contains(feed.Problem.Current(), "write pgbridge.position") })
	if feed.logs.FilterMessage("reads the replication slot").Len() > 0 {
		t.Error("it said that it was ready before")
	}
	w.exec("DROP TRIGGER refuse ON pgbridge.position")
	testenv.Wait(t, patience, "the replica to be ready", func() bool { return feed.Problem.Current() == "" })
	if err := feed.stop(); err != nil {
		t.Fatal(err)
	}
}

// A position that cannot be written in time, as where a commit waits for a standby that is
// away, is told of then, and not after another attempt.
func TestPositionThatHasToWaitIsToldOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	feed := w.run([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', 'first')")
	w.await("first")
	locker := w.connect()
	if _, err := locker.Exec(t.Context(), "BEGIN; SELECT FROM pgbridge.position FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	w.exec("SELECT pgbridge.notify('a', 'second')")
	testenv.Wait(t, patience, "the fault to be told of", func() bool { return strings.Contains(feed.Problem.Current(), "position") })
	if feed.logs.FilterMessage("position not written at the end").Len() > 0 {
		t.Error("it was tried once more before that")
	}
	if _, err := locker.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, patience, "the replica to be ready", func() bool { return feed.Problem.Current() == "" && feed.Unkept() == "" })
	w.exec("SELECT pgbridge.notify('a', 'third')")
	w.compare(w.await("third"))
	if err := feed.stop(); err != nil {
		t.Fatal(err)
	}
}

// Whoever has REPLICATION may read the slot in a replica's stead, and have it let go of
// what it keeps.
func TestSlotInForeignHandsIsToldOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	feed := w.run([]string{"a"})
	w.begun(1)
	if err := feed.stop(); err != nil {
		t.Fatal(err)
	}
	stranger := w.read(t)
	feed = w.run([]string{"a"})
	testenv.Wait(t, patience, "the stranger to be named", func() bool { return strings.Contains(feed.Problem.Current(), `application "stranger"`) })
	if feed.Unkept() == "" {
		t.Error("it says that the channel's events are kept")
	}
	stranger()
	testenv.Wait(t, patience, "the replica to be ready", func() bool { return feed.Problem.Current() == "" && feed.Unkept() == "" })
	if err := feed.stop(); err != nil {
		t.Fatal(err)
	}
}

// read has somebody else read the slot, until it is called.
func (w *world) read(t *testing.T) (end func()) {
	t.Helper()
	config, err := pgconn.ParseConfig(w.url)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = "stranger"
	conn, err := wal.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	name := testenv.Value[string](t, w.url, "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE 'pgbridge%'")
	reader, err := conn.Start(t.Context(), wal.Config{Slot: name, Publication: "pgbridge", Want: func([]byte) bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var reports sync.WaitGroup
	reports.Go(func() { _ = reader.Report(ctx) })
	end = sync.OnceFunc(func() {
		cancel()
		reports.Wait()
		reader.Close()
	})
	t.Cleanup(end)
	return end
}
