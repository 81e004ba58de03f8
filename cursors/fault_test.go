package cursors_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestClientThatNeverCloses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.serve(func(c *txrunner.Config) { c.IdleTimeout = 300 * time.Millisecond; c.PinnedConnections = 1 })
	tx := w.works("cursor.numbers", `{"params": {"n": 9}, "count": 1}`).Tx
	w.wantIdle()
	w.fails("gone", tx+".fetch", `{"cursor": "c1"}`)
	w.fails("gone", tx+".close", `{"cursor": "c1"}`)
	w.fails("gone", tx+".stream", `{"cursor": "c1"}`)
	w.works("cursor.numbers", `{"params": {"n": 9}, "count": 1}`)

	tx = w.works("begin", "").Tx // waits until that one is over as well
	w.works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1, "hold": true}`)
	w.works(tx+".commit", "")
	w.wantReset(tx)
}

// wantReset waits for the end of a transaction without keeping it awake.
func (w *world) wantReset(tx string) {
	w.t.Helper()
	testenv.Wait(w.t, patience, "a held cursor to go", func() bool {
		return testenv.Value[int](w.t, w.pg, `SELECT count(*)::int FROM pg_stat_activity
			WHERE datname = current_database() AND state = 'idle' AND query LIKE 'DISCARD ALL%'`) > 0
	})
	w.fails("gone", tx+".fetch", `{"cursor": "c1"}`)
}

func TestPostgresIsRestarted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w.pg = pg.NewDatabase(t)
	w.serve()
	reading := w.works("cursor.rows", `{"params": {"n": 5000000}, "count": 1}`).Tx
	idle := w.works("cursor.rows", `{"params": {"n": 100}, "count": 1}`).Tx
	sub := w.openStream(reading, `{"cursor": "c1", "window_bytes": 100000}`)
	var r received
	for range 3 {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		r.take(w, msg, true)
	}
	pg.Kill(t)
	for done := false; !done; {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		done = r.take(w, msg, true)
	}
	if r.err == nil || r.err.Code != "unavailable" || r.end.Get("Pgbridge-Rows") != "" {
		t.Errorf("the stream ended with %+v, want unavailable", r.err)
	}
	w.fails("gone", reading+".fetch", `{"cursor": "c1"}`)
	if a := w.ask(idle+".fetch", `{"cursor": "c1"}`); a.Error == nil || a.Error.Code != "unavailable" && a.Error.Code != "gone" {
		t.Errorf("a fetch without PostgreSQL answered %.200s", a.body)
	}
	w.fails("gone", idle+".fetch", `{"cursor": "c1"}`)
	w.fails("unavailable", "cursor.rows", `{"params": {"n": 1}}`)
	pg.Start(t)
	testenv.Wait(t, patience, "a cursor to open again", func() bool {
		return w.ask("cursor.rows", `{"params": {"n": 1}}`).Error == nil
	})
}

func TestReplicaIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"locked": "SELECT id FROM item ORDER BY id FOR UPDATE;"})
	w.sql("CREATE TABLE item (id int); INSERT INTO item SELECT generate_series(1, 10)")
	config, err := json.Marshal(childConfig{w.pg, w.nats.URL(), w.folder})
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(program)
	child.Env, child.Stderr = append(os.Environ(), childEnv+"="+string(config)), os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
		_ = stdin.Close()
	})
	var a answer
	testenv.Wait(t, patience, "the replica to open a cursor", func() bool {
		a, err = w.try("cursor.locked", `{"count": 2}`)
		return err == nil
	})
	equal(t, "first page", a.rows(), "[1][2]")
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, patience, "no responders", func() bool {
		_, err := w.client.Request(a.Tx+".fetch", []byte(`{"cursor": "c1"}`), time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	})
	w.wantIdle()
	w.sql("SET lock_timeout = '10s'; UPDATE item SET id = id + 1") // the locks are gone
}

// TestSchemaChanges changes tables under an open cursor, which PostgreSQL makes
// wait, and between two.
func TestSchemaChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.sql("CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item SELECT g, 'n' || g FROM generate_series(1, 5) g")
	w.write("alter", "ALTER TABLE item ADD COLUMN more int;")
	w.write("drop", "DROP TABLE item;")
	w.serve()
	a := w.works("cursor.items", `{"count": 1}`)
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		testenv.Exec(t, w.pg, "ALTER TABLE item ALTER COLUMN id TYPE text USING 'id ' || id")
	}()
	testenv.Wait(t, patience, "ALTER TABLE to wait", func() bool {
		return testenv.Value[int](t, w.pg, "SELECT count(*)::int FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") > 0
	})
	equal(t, "the old rows", w.works(a.Tx+".fetch", `{"cursor": "c1", "count": 1}`).rows(), `[2,"n2"]`)
	w.works(a.Tx+".close", `{"cursor": "c1"}`)
	<-changed
	b := w.works("cursor.items", `{"count": 1}`)
	equal(t, "the new rows", b.rows()+b.Columns[0]["type"], `["id 1","n1"]text`)
	refused := w.fails("sql_error", b.Tx+".run.alter", "")
	equal(t, "in the transaction itself", refused.Error.SQLState+refused.state(), "55006failed")
	w.works(b.Tx+".rollback", "")

	tx := w.works("begin", "").Tx
	w.works(tx+".cursor.items", `{"count": 1, "hold": true}`)
	w.works(tx+".commit", "")
	w.sql("DROP TABLE item")
	equal(t, "held rows outlive their table", len(w.works(tx+".fetch", `{"cursor": "c1"}`).Rows), 4)
	gone := w.fails("sql_error", "cursor.items", "")
	equal(t, "without the table", gone.Error.SQLState+fmt.Sprint(gone.Error.Statement, gone.Error.Position), "42P011 22")
}

// TestCommitThatFailsBehindTheLastPage has a constraint that is checked at
// COMMIT: the client must not get the end without it.
func TestCommitThatFailsBehindTheLastPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"orphan": "INSERT INTO child VALUES (1); SELECT g FROM generate_series(1, 3) g;"})
	w.sql(`CREATE TABLE parent (id int PRIMARY KEY);
		CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)`)
	w.serve()
	equal(t, "all at once", w.fails("sql_error", "cursor.orphan", "").Error.SQLState, "23503")
	open := func() string { return w.works("cursor.orphan", `{"count": 1}`).Tx }
	tx := open()
	last := w.fails("sql_error", tx+".fetch", `{"cursor": "c1", "page": 2}`)
	equal(t, "the last page", last.Error.SQLState+last.state(), "23503ended")
	w.fails("gone", tx+".fetch", `{"cursor": "c1", "page": 2}`)
	equal(t, "close", w.fails("sql_error", open()+".close", `{"cursor": "c1"}`).Error.SQLState, "23503")
	r := w.streamed(open(), `{"cursor": "c1"}`, true)
	if r.err == nil || r.err.SQLState != "23503" || r.end.Get("Pgbridge-Rows") != "" {
		t.Errorf("the stream ended with %+v and %v", r.err, r.end)
	}
	equal(t, "rows", testenv.Value[int](t, w.pg, "SELECT count(*)::int FROM child"), 0)
	w.wantIdle()
}

func TestErrorsNameThePlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"second": "CREATE TEMP TABLE scratch (id int) ON COMMIT DROP;\nSELECT 'ä', nothing FROM scratch WHERE id = @id;",
		"cast":   "SELECT 1;\nSELECT CAST(@text::text AS int);",
	})
	w.serve()
	e := w.fails("sql_error", "cursor.second", `{"params": {"id": 1}}`)
	equal(t, "place", fmt.Sprint(e.Error.Statement, e.Error.Position), "2 13")
	e = w.fails("sql_error", "cursor.cast", `{"params": {"text": "x"}, "name": "a longer näme"}`)
	equal(t, "place", e.Error.SQLState+fmt.Sprint(e.Error.Statement), "22P022")
	w.fails("sql_error", "cursor", `{"sql": "SELECT relname FROM pg_class FOR UPDATE", "scroll": true}`)
	w.wantIdle()
}

// TestTimeRunsOut cancels a page half way, which leaves the connection fit for
// use.
func TestTimeRunsOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"slow":    "-- timeout: 2s\nSELECT g, pg_sleep(0.01) FROM generate_series(1, 1000000) g;",
		"numbers": "SELECT g FROM generate_series(1, 5) g;",
	})
	w.serve(func(c *txrunner.Config) { c.PinnedConnections = 1 })
	tx := w.works("begin", "").Tx
	w.works(tx+".cursor.slow", `{"count": 1, "scroll": true}`)
	w.works(tx+".savepoint", `{"name": "s"}`)
	for i, verb := range []string{"fetch", "move"} {
		late := w.fails("timeout", tx+"."+verb, fmt.Sprintf(`{"cursor": "c%d", "count": 100000}`, i+1))
		equal(t, verb, late.state(), "failed")
		w.works(tx+".rollback_to", `{"name": "s"}`)
		equal(t, "the session goes on", w.works(tx+".cursor.numbers", fmt.Sprintf(`{"name": "n%d"}`, i)).rows(), "[1][2][3][4][5]")
		w.works(tx+".cursor.slow", fmt.Sprintf(`{"name": "c%d", "count": 1}`, i+2))
	}
	w.works(tx+".rollback", "")
	w.fails("timeout", "cursor.slow", `{"count": 64, "timeout_ms": 100}`)
	w.works("cursor.numbers", "")
	w.wantIdle()
}
