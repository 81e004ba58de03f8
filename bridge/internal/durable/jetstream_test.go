package durable

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// While JetStream has no room nothing is lost, and readiness says why nothing
// goes on.
func TestJetStreamThatIsFull(t *testing.T) {
	t.Parallel()
	ns := testenv.NATS(t, func(o *server.Options) { o.JetStreamMaxStore = 4 << 20 })
	w := newWorld(t, dedicated(t), ns.URL())
	r := w.three([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', 'first')")
	w.await("first")
	js, _ := w.stream()
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	for full := false; !full; {
		_, err := js.Publish(t.Context(), "other", make([]byte, 100_000))
		full = err != nil
	}
	w.exec("SELECT pgbridge.notify('a', repeat('x', 100000) || i) FROM generate_series(1, 10) i")
	testenv.Wait(t, patience, "the problem", func() bool { return r.tells("insufficient") })
	w.exec("SELECT pgbridge.notify('a', 'more')")
	if err := js.DeleteStream(t.Context(), "OTHER"); err != nil {
		t.Fatal(err)
	}
	all := w.await("more")
	w.compare(all)
	onlyStarted(t, all)
}

// replicated has the stream kept by all three nodes of a cluster.
func replicated(f *Feed) { f.Stream.Replicas = 3 }

// Without a quorum the stream takes nothing. What was on its way then may be
// stored or not; afterwards everything is there once.
func TestJetStreamWithoutQuorum(t *testing.T) {
	t.Parallel()
	cluster := testenv.Cluster(t, 3)
	w := newWorld(t, dedicated(t), cluster.URL())
	w.three([]string{"a"}, replicated)
	w.begun(1)
	tr := w.traffic(2)
	for range 2 {
		w.grown()
		cluster.Nodes[0].Stop(t)
		cluster.Nodes[1].Stop(t)
		w.exec("SELECT pgbridge.notify('a', 'meanwhile'); INSERT INTO ledger VALUES ('meanwhile')")
		cluster.Nodes[0].Start(t)
		cluster.Nodes[1].Start(t)
		w.grown()
	}
	onlyStarted(t, w.settle(tr))
}

// A leader that steps down in the midst of a batch neither loses nor repeats, and
// the replicas that serve in turn do not either.
func TestLeadersThatStepDown(t *testing.T) {
	t.Parallel()
	cluster := testenv.Cluster(t, 3)
	w := newWorld(t, dedicated(t), cluster.URL())
	first := w.run([]string{"a"}, replicated)
	w.begun(1)
	tr := w.traffic(2)
	other := w.spawn([]string{"a"}) // waits for the slot, as does the third
	w.spawn([]string{"a"})
	nc := cluster.Connect(t)
	for round := range 6 {
		w.exec(`WITH sent AS (INSERT INTO ledger SELECT 'batch ' || i FROM generate_series(1, 3000) i RETURNING payload)
			SELECT count(pgbridge.notify('a', payload)) FROM sent`)
		w.grown()
		w.stepDown(nc)
		if round == 2 {
			if err := first.stop(); err != nil {
				t.Fatal(err)
			}
		}
		if round == 4 {
			other.Kill()
			w.spawn([]string{"a"})
		}
		w.grown()
	}
	onlyStarted(t, w.settle(tr))
}

// stepDown has the stream elect another leader.
func (w *world) stepDown(nc *nats.Conn) {
	w.t.Helper()
	testenv.Wait(w.t, patience, "the leader to step down", func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		defer cancel()
		reply, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+streamName, nil)
		return err == nil && strings.Contains(string(reply.Data), `"success":true`)
	})
}

// What a prepared transaction sent comes when that commits, in the order of the
// commits, whatever is killed in between, all three replicas too; what is rolled back
// never comes.
func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	pg := dedicated(t)
	w := newWorld(t, pg, testenv.NATS(t).URL())
	replicas := w.spawnThree([]string{"a"})
	w.begun(1)
	prepare := func(name string) {
		w.exec(fmt.Sprintf(`BEGIN; SELECT pgbridge.notify('a', '%[1]s 1'); SAVEPOINT s; SELECT pgbridge.notify('a', '%[1]s undone'); ROLLBACK TO s;
			SAVEPOINT s; SELECT pgbridge.notify('a', '%[1]s 2'); RELEASE s; SELECT pgbridge.notify('a', 'equal'); PREPARE TRANSACTION '%[1]s'`, name))
	}
	prepare("late")
	prepare("early")
	prepare("never")
	w.exec("SELECT pgbridge.notify('a', 'between')")
	w.await("between")
	replicas.kill()
	pg.Kill(t)
	pg.Start(t)
	w.exec("COMMIT PREPARED 'early'")
	replicas = w.spawnThree([]string{"a"})
	testenv.Wait(t, patience, "the first prepared transaction", func() bool { return len(w.messages()) == 5 })
	replicas.kill()
	w.exec("SELECT pgbridge.notify('a', 'equal')")
	w.exec("ROLLBACK PREPARED 'never'")
	w.exec("COMMIT PREPARED 'late'")
	w.spawnThree([]string{"a"})
	w.exec("SELECT pgbridge.notify('a', 'the end')")
	all := w.await("the end")
	want := []string{"a between", "a early 1", "a early 2", "a equal", "a equal", "a late 1", "a late 2", "a equal", "a the end"}
	if got := events(all); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	w.compare(all)
	onlyStarted(t, all)
}
