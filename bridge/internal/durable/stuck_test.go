package durable

import (
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A place of the log at which the server fails in each session keeps a replica from being
// ready all the time, and is not told of anew with each attempt; a new slot ends that.
func TestPlaceWhereTheServerFailsIsToldOfAllTheTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testenv.Postgres(t), testenv.NATS(t).URL())
	if testenv.Value[int](t, w.url, "SELECT current_setting('server_version_num')::int") < 150000 {
		return // no publication there can have the server fail
	}
	w.exec("CREATE TABLE t (i int); ALTER TABLE t REPLICA IDENTITY FULL")
	feed := w.run([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', 'before')")
	w.await("before")
	w.exec("ALTER PUBLICATION pgbridge ADD TABLE t WHERE (1 / i > 0)")
	w.exec("INSERT INTO t VALUES (0)")
	failed := func() bool { return strings.Contains(feed.Problem.Current(), "22012") }
	testenv.Wait(t, patience, "the server to fail", failed)
	sessions := func() int { return feed.logs.FilterMessage("reads the replication slot").Len() }
	before := sessions()
	testenv.Wait(t, patience, "more attempts", func() bool {
		if !failed() {
			t.Fatalf("it says that it is ready: %q", feed.Problem.Current())
		}
		return sessions() >= before+4
	})
	if n := feed.logs.FilterMessage("recovered").Len(); n > 1 { // it may not have come as far before
		t.Errorf("it was told %d times that this is over", n)
	}
	w.exec("ALTER PUBLICATION pgbridge DROP TABLE t")
	conn := w.connect()
	testenv.Wait(t, patience, "the slot to be dropped", func() bool { // between two attempts
		_, err := conn.Exec(t.Context(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE 'pgbridge%'")
		return err == nil
	})
	testenv.Wait(t, patience, "the replica to be ready", func() bool { return feed.Problem.Current() == "" && feed.Unkept() == "" })
	w.exec("SELECT pgbridge.notify('a', 'after')")
	w.await("after")
	if err := feed.stop(); err != nil {
		t.Fatal(err)
	}
}
