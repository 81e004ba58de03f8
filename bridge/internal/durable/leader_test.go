package durable

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Any copy of a stream may answer a direct get, the nearest first, and one that is behind
// answers with a message that is not the last. The stream's end is read from its leader,
// so nothing is published again.
func TestCopyOfTheStreamThatIsBehind(t *testing.T) {
	t.Parallel()
	cluster := testenv.Cluster(t, 3, func(o *server.Options) { o.Tags.Add(o.ServerName) })
	w := newWorld(t, testenv.Postgres(t), cluster.URL())
	on := func(node string) *jetstream.Placement { return &jetstream.Placement{Tags: []string{node}} }
	js, err := jetstream.New(cluster.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range []jetstream.StreamConfig{
		{Name: streamName, Subjects: w.routes([]string{"a"})["a"].Subjects(), AllowDirect: true, Placement: on("node1")},
		{Name: "BEHIND", Mirror: &jetstream.StreamSource{Name: streamName}, MirrorDirect: true, MaxMsgs: 2, Discard: jetstream.DiscardNew, Placement: on("node2")},
	} {
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	near := *w
	near.nats = cluster.Nodes[1].URL()
	unconfirmed := func(f *Feed) { f.ConfirmDelay = time.Hour } // the slot gives everything again
	r := near.run([]string{"a"}, unconfirmed)
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', '1')")
	w.await("1")
	testenv.Wait(t, patience, "the position to be written", func() bool {
		return testenv.Value[bool](t, w.url, "SELECT last_sequence = 2 FROM pgbridge.position")
	})
	w.exec("CREATE TABLE before AS SELECT * FROM pgbridge.position")
	for i := range 4 {
		w.exec("SELECT pgbridge.notify('a', $1::text)", fmt.Sprint(i+2))
	}
	w.await("5")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// As a replica leaves it that is killed before it writes the position again.
	w.exec("UPDATE pgbridge.position p SET last_sequence = t.last_sequence, id = t.id, committed_at = t.committed_at FROM before t")

	direct := cluster.Nodes[1].Connect(t)
	testenv.Wait(t, patience, "the copy that is behind to answer", func() bool {
		m, err := direct.Request("$JS.API.DIRECT.GET."+streamName, []byte(`{"last_by_subj":">"}`), patience)
		return err == nil && m.Header.Get("Nats-Stream") == "BEHIND" && m.Header.Get("Nats-Sequence") == "2"
	})
	near.run([]string{"a"}, unconfirmed)
	w.exec("SELECT pgbridge.notify('a', 'last')")
	all := w.await("last")
	w.compare(all)
	onlyStarted(t, all)
}
