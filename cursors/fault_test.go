package cursors_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestClientThatNeverCloses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.serve(func(c *txrunner.Config) { c.IdleTimeout, c.PinnedConnections, c.Share = 300*time.Millisecond, 1, 1 })
	tx := w.Works("cursor.numbers", `{"params": {"n": 9}, "count": 1}`).Tx
	w.WantIdle()
	w.Fails("gone", tx+".fetch", `{"cursor": "c1"}`)
	w.Fails("gone", tx+".close", `{"cursor": "c1"}`)
	w.Fails("gone", tx+".stream", `{"cursor": "c1"}`)
	w.Works("cursor.numbers", `{"params": {"n": 9}, "count": 1}`)

	tx = w.Works("begin", "").Tx // waits until that one is over as well
	w.Works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1, "hold": true}`)
	w.Works(tx+".commit", "")
	w.wantReset(tx)
}

// wantReset waits for the end of a transaction without keeping it awake.
func (w *world) wantReset(tx string) {
	w.T.Helper()
	testenv.Wait(w.T, harness.Patience, "a held cursor to go", func() bool {
		return testenv.Value[int](w.T, w.Postgres, `SELECT count(*)::int FROM pg_stat_activity
			WHERE datname = current_database() AND state = 'idle' AND query LIKE 'DISCARD ALL%'`) > 0
	})
	w.Fails("gone", tx+".fetch", `{"cursor": "c1"}`)
}

func TestPostgresIsRestarted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w.Postgres = pg.NewDatabase(t)
	w.serve()
	reading := w.Works("cursor.rows", `{"params": {"n": 5000000}, "count": 1}`).Tx
	idle := w.Works("cursor.rows", `{"params": {"n": 100}, "count": 1}`).Tx
	in := w.openStream(reading, `{"cursor": "c1", "window_bytes": 100000}`)
	var r received
	for range 3 {
		r.take(in, true)
	}
	pg.Kill(t)
	for done := false; !done; {
		done = r.take(in, true)
	}
	if r.err == nil || r.err.Code != "unavailable" || r.end.Get("Pgbridge-Rows") != "" {
		t.Errorf("the stream ended with %+v, want unavailable", r.err)
	}
	w.Fails("gone", reading+".fetch", `{"cursor": "c1"}`)
	if a := w.Ask(idle+".fetch", `{"cursor": "c1"}`); a.Error == nil || a.Error.Code != "unavailable" && a.Error.Code != "gone" {
		t.Errorf("a fetch without PostgreSQL answered %.200s", a.Body)
	}
	w.Fails("gone", idle+".fetch", `{"cursor": "c1"}`)
	w.Fails("unavailable", "cursor.rows", `{"params": {"n": 1}}`)
	pg.Start(t)
	testenv.Wait(t, harness.Patience, "a cursor to open again", func() bool {
		return w.Ask("cursor.rows", `{"params": {"n": 1}}`).Error == nil
	})
}

func TestReplicaIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"locked": "SELECT id FROM item ORDER BY id FOR UPDATE;"})
	w.SQL("CREATE TABLE item (id int); INSERT INTO item SELECT generate_series(1, 10)")
	child := testenv.Spawn(t, childConfig{w.Postgres, w.NATS.URL(), w.Folder})
	var a harness.Reply
	var err error
	testenv.Wait(t, harness.Patience, "the replica to open a cursor", func() bool {
		a, err = w.Try("cursor.locked", `{"count": 2}`)
		return err == nil
	})
	harness.Equal(t, "first page", a.Rows.String(), "[1][2]")
	child.Kill()
	testenv.Wait(t, harness.Patience, "no responders", func() bool {
		_, err := w.Client.Request(a.Tx+".fetch", []byte(`{"cursor": "c1"}`), time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	})
	w.WantIdle()
	w.SQL("SET lock_timeout = '10s'; UPDATE item SET id = id + 1") // the locks are gone
}

// TestSchemaChanges changes tables under an open cursor, which PostgreSQL makes
// wait, and between two.
func TestSchemaChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.SQL("CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item SELECT g, 'n' || g FROM generate_series(1, 5) g")
	w.Write("alter", "ALTER TABLE item ADD COLUMN more int;")
	w.Write("drop", "DROP TABLE item;")
	w.serve()
	a := w.Works("cursor.items", `{"count": 1}`)
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		testenv.Exec(t, w.Postgres, "ALTER TABLE item ALTER COLUMN id TYPE text USING 'id ' || id")
	}()
	testenv.Wait(t, harness.Patience, "ALTER TABLE to wait", func() bool {
		return testenv.Value[int](t, w.Postgres, "SELECT count(*)::int FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") > 0
	})
	harness.Equal(t, "the old rows", w.Works(a.Tx+".fetch", `{"cursor": "c1", "count": 1}`).Rows.String(), `[2,"n2"]`)
	w.Works(a.Tx+".close", `{"cursor": "c1"}`)
	<-changed
	b := w.Works("cursor.items", `{"count": 1}`)
	harness.Equal(t, "the new rows", b.Rows.String()+b.Columns[0]["type"], `["id 1","n1"]text`)
	refused := w.Fails("sql_error", b.Tx+".run.alter", "")
	harness.Equal(t, "in the transaction itself", refused.Error.SQLState+refused.State(), "55006failed")
	w.Works(b.Tx+".rollback", "")

	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.items", `{"count": 1, "hold": true}`)
	w.Works(tx+".commit", "")
	w.SQL("DROP TABLE item")
	harness.Equal(t, "held rows outlive their table", len(w.Works(tx+".fetch", `{"cursor": "c1"}`).Rows), 4)
	gone := w.Fails("sql_error", "cursor.items", "")
	harness.Equal(t, "without the table", gone.Error.SQLState+fmt.Sprint(gone.Error.Statement, gone.Error.Position), "42P011 22")
}

// TestCommitThatFailsBehindTheLastPage has a constraint that is checked at
// COMMIT: the client must not get the end without it.
func TestCommitThatFailsBehindTheLastPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"orphan": "INSERT INTO child VALUES (1); SELECT g FROM generate_series(1, 3) g;"})
	w.SQL(`CREATE TABLE parent (id int PRIMARY KEY);
		CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)`)
	w.serve()
	harness.Equal(t, "all at once", w.Fails("sql_error", "cursor.orphan", "").Error.SQLState, "23503")
	open := func() string { return w.Works("cursor.orphan", `{"count": 1}`).Tx }
	tx := open()
	last := w.Fails("sql_error", tx+".fetch", `{"cursor": "c1", "page": 2}`)
	harness.Equal(t, "the last page", last.Error.SQLState+last.State(), "23503ended")
	w.Fails("gone", tx+".fetch", `{"cursor": "c1", "page": 2}`)
	harness.Equal(t, "close", w.Fails("sql_error", open()+".close", `{"cursor": "c1"}`).Error.SQLState, "23503")
	r := w.streamed(open(), `{"cursor": "c1"}`, true)
	if r.err == nil || r.err.SQLState != "23503" || r.end.Get("Pgbridge-Rows") != "" {
		t.Errorf("the stream ended with %+v and %v", r.err, r.end)
	}
	harness.Equal(t, "rows", testenv.Value[int](t, w.Postgres, "SELECT count(*)::int FROM child"), 0)
	w.WantIdle()
}

func TestErrorsNameThePlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"second": "CREATE TEMP TABLE scratch (id int) ON COMMIT DROP;\nSELECT 'ä', nothing FROM scratch WHERE id = @id;",
		"cast":   "SELECT 1;\nSELECT CAST(@text::text AS int);",
	})
	w.serve()
	e := w.Fails("sql_error", "cursor.second", `{"params": {"id": 1}}`)
	harness.Equal(t, "place", fmt.Sprint(e.Error.Statement, e.Error.Position), "2 13")
	e = w.Fails("sql_error", "cursor.cast", `{"params": {"text": "x"}, "name": "a longer näme"}`)
	harness.Equal(t, "place", e.Error.SQLState+fmt.Sprint(e.Error.Statement), "22P022")
	w.Fails("sql_error", "cursor", `{"sql": "SELECT relname FROM pg_class FOR UPDATE", "scroll": true}`)
	w.WantIdle()
}

// TestTimeRunsOut cancels a page half way, which leaves the connection fit for
// use.
func TestTimeRunsOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"slow":    "-- timeout: 2s\nSELECT g, pg_sleep(0.05) FROM generate_series(1, 1000000) g;",
		"numbers": "SELECT g FROM generate_series(1, 5) g;",
	})
	w.serve(func(c *txrunner.Config) { c.PinnedConnections = 1 })
	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.slow", `{"count": 1, "scroll": true}`)
	w.Works(tx+".savepoint", `{"name": "s"}`)
	for i, verb := range []string{"fetch", "move"} {
		late := w.Fails("timeout", tx+"."+verb, fmt.Sprintf(`{"cursor": "c%d", "count": 100000}`, i+1))
		harness.Equal(t, verb, late.State(), "failed")
		w.Works(tx+".rollback_to", `{"name": "s"}`)
		harness.Equal(t, "the session goes on", w.Works(tx+".cursor.numbers", fmt.Sprintf(`{"name": "n%d"}`, i)).Rows.String(), "[1][2][3][4][5]")
		w.Works(tx+".cursor.slow", fmt.Sprintf(`{"name": "c%d", "count": 1}`, i+2))
	}
	w.Works(tx+".rollback", "")
	w.Fails("timeout", "cursor.slow", `{"count": 64, "timeout_ms": 2000}`)
	w.Works("cursor.numbers", "")
	w.WantIdle()
}
