package bridge_test

import (
	"os"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// What a stream acknowledged and lost again, as with a crash of its host, the
// publishing replica stores once more: each event once, in order, without a gap.
func TestStreamThatForgot(t *testing.T) {
	t.Parallel()
	var store string
	ns := testenv.NATS(t, func(o *server.Options) { store = o.StoreDir })
	w := worldWith(t, ns)
	link := testenv.NewProxy(t, ns.Addr()) // not before those who look are back
	config := w.config(t, map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}})
	config.Events, config.Requests = connect(t, link.Reroute(t, w.nats)), connect(t, link.Reroute(t, w.nats))
	r := launch(t, config).ready(t)
	w.heard.awaitGap(t, "audit", api.ReasonStarted)
	writer := newWriter(t, w.pg, "audit")
	writer.write(t, 100, 10, 0)
	last := func() string { return writer.commits[len(writer.commits)-1].payload }
	w.recorded(t, last())
	older := t.TempDir()
	ns.Stop(t)
	copyStore(t, older, store)
	ns.Start(t)
	r.ready(t)
	writer.write(t, 500, 10, 0)
	w.recorded(t, last())
	acknowledged(t, r)

	ns.Stop(t)
	r.hasProblem(t, "NATS, events")
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	copyStore(t, store, older)
	ns.Start(t)
	writer.write(t, 100, 10, 0)
	stored := w.recorded(t, last())
	gaps := stored.gaps(t, "audit")
	if missing := judge(t, writer.commits, stored.events("pgbridge.event.audit"), gaps); missing != 0 || len(gaps) != 1 {
		t.Errorf("%d events are missing, gaps %s; want none but the one of the start", missing, show(gaps))
	}
	if r.warnings("the stream lost messages that it had acknowledged") != 1 {
		t.Error("the log does not say once that the stream lost something: the test tests nothing")
	}
}

// acknowledged waits until nothing waits for the stream.
func acknowledged(t *testing.T, r *running) {
	t.Helper()
	testenv.Wait(t, patience, "the stream to have acknowledged everything", func() bool {
		return r.Status().QueueBytes[bridge.DeliveryJetStream] == 0
	})
}

func copyStore(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
