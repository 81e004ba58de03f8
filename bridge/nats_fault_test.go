package bridge_test

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// natsServer is a server that a test stops.
type natsServer interface {
	URL() string
	Addr() string
	Start(testing.TB)
	Stop(testing.TB)
}

// shortWindow makes a stream forget message ids before anybody reconnects.
const shortWindow = 100 * time.Millisecond

func worldWith(t testing.TB, server natsServer) *world {
	t.Helper()
	w := &world{pg: testenv.Postgres(t).NewDatabase(t), nats: server.URL(), prefix: "pgbridge"}
	w.heard = listen(t, w.nats, w.prefix)
	return w
}

// newLinkedTrial is newTrial with a proxy between the bridge and NATS.
func newLinkedTrial(t *testing.T, server natsServer, changes ...func(*bridge.Config)) (*trial, *testenv.Proxy) {
	t.Helper()
	w := worldWith(t, server)
	link := testenv.NewProxy(t, server.Addr())
	via := func(c *bridge.Config) {
		c.Events, c.Requests = connect(t, link.Reroute(t, w.nats)), connect(t, link.Reroute(t, w.nats))
		c.Stream.DuplicateWindow = shortWindow
	}
	return newTrial(t, w, nil, append([]func(*bridge.Config){via}, changes...)...), link
}

func TestNATSRestarted(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			var server natsServer
			down := func() { server.Stop(t) }
			if how == "stopped" {
				server = testenv.NATS(t)
			} else {
				child := testenv.NATSProcess(t, "")
				server, down = child, func() { child.Kill(t) }
			}
			x, link := newLinkedTrial(t, server)
			down()
			x.bridge.hasProblem(t, "NATS, events")
			link.Freeze() // until those who hear it are back
			server.Start(t)
			x.awaken(t)
			link.Thaw()
			x.finishInPlace(t)
		})
	}
}

// A link that is frozen and dies is noticed though nobody closes it.
func TestNATSLinkFrozen(t *testing.T) {
	t.Parallel()
	x, link := newLinkedTrial(t, testenv.NATS(t))
	for range 2 {
		link.Freeze()
		began := time.Now()
		x.bridge.hasProblem(t, "NATS, events")
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the frozen link was noticed after %s, want 15 s at the most", took)
		}
		link.Cut() // what was on its way is lost, as on a dead link
		link.Thaw()
		x.bridge.ready(t)
	}
	r := x.finishInPlace(t)
	if r["orders"].missing == 0 && !testing.Short() { // with the race detector it can be noticed in between
		t.Error("no event was on the link when it froze: the test tests nothing")
	}
}

// A link that is frozen for a moment loses nothing.
func TestNATSLinkFrozenForAMoment(t *testing.T) {
	t.Parallel()
	x, link := newLinkedTrial(t, testenv.NATS(t))
	link.Freeze()
	full := func() bool { return x.bridge.Status().QueueBytes[bridge.DeliveryCore] > 20_000 }
	testenv.Wait(t, patience, "events to pile up", full)
	link.Thaw()
	for _, r := range x.finishInPlace(t) {
		if r.missing != 0 || len(r.gaps) != 1 {
			t.Errorf("%s: %d events missing, gaps %s; want none but the one of the start", r.channel, r.missing, show(r.gaps))
		}
	}
}

func TestNATSLinkCutInABurst(t *testing.T) {
	t.Parallel()
	x, link := newLinkedTrial(t, testenv.NATS(t))
	bursts := map[string]*writer{"orders": newWriter(t, x.pg, "orders"), "audit": newWriter(t, x.pg, "audit")}
	for range 10 {
		accepted := link.Accepted()
		heard := len(x.heard.all())
		for _, b := range bursts {
			b.write(t, testenv.Fewer(3000), 100, 200)
		}
		testenv.Wait(t, patience, "the burst to pass", func() bool { return len(x.heard.all()) > heard+500 })
		link.Cut()
		testenv.Wait(t, patience, "both connections to be back", func() bool { return link.Accepted() >= accepted+2 })
	}
	r := x.finishInPlace(t)
	for channel, b := range bursts {
		last := newWriterAfter(t, x.pg, b)
		x.heard.awaitEvent(t, "pgbridge.event."+channel, last)
	}
	stored := x.stored(t)
	inPlace(t, bursts["orders"].commits, x.heard.all(), x.prefix, "orders")
	inPlace(t, bursts["audit"].commits, stored, x.prefix, "audit")
	if n := len(r["audit"].gaps); n != 1 {
		t.Errorf("gaps of audit %s; want none but the one of the start", show(r["audit"].gaps))
	}
}

// newWriterAfter commits one more notification and returns it.
func newWriterAfter(t *testing.T, url string, w *writer) string {
	t.Helper()
	w.write(t, 1, 1, 200)
	return w.commits[len(w.commits)-1].payload
}

// finishInPlace is finish that also wants every gap in its place, the stream's
// chain of message ids intact, and no gap in the stream after the first but for
// these reasons.
func (x *trial) finishInPlace(t *testing.T, reasons ...api.Reason) map[string]outcome {
	t.Helper()
	results := x.finish(t)
	stored := x.stored(t)
	chained(t, stored)
	for _, s := range x.writers {
		msgs := stored
		if s.channel == "orders" {
			if tookOver(results["orders"].gaps) {
				continue
			}
			msgs = x.heard.all()
		}
		inPlace(t, s.commits, msgs, x.prefix, s.channel)
	}
	for _, g := range results["audit"].gaps[min(1, len(results["audit"].gaps)):] {
		if !slices.Contains(reasons, g.Reason) {
			t.Errorf("the stream has the gap %+v", g)
		}
	}
	return results
}

// stored waits until the bridge has nothing left for the stream, and returns
// what that holds.
func (x *trial) stored(t testing.TB) []*nats.Msg {
	t.Helper()
	testenv.Wait(t, patience, "every event to be stored", func() bool {
		return x.bridge.Status().QueueBytes[bridge.DeliveryJetStream] == 0
	})
	return x.messages(t)
}

// messages returns what the world's stream holds.
func (w *world) messages(t testing.TB) []*nats.Msg {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream := w.stream(ctx, t)
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{InactiveThreshold: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.DeleteConsumer(ctx, consumer.CachedInfo().Name) }()
	it, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer it.Stop()
	var msgs []*nats.Msg
	for uint64(len(msgs)) < stream.CachedInfo().State.Msgs {
		m, err := it.Next(jetstream.NextMaxWait(patience))
		if err != nil {
			t.Fatalf("after %d messages of the stream: %v", len(msgs), err)
		}
		msgs = append(msgs, &nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()})
	}
	return msgs
}

// stream returns the world's stream, its information just read.
func (w *world) stream(ctx context.Context, t testing.TB) jetstream.Stream {
	t.Helper()
	stream, err := w.jetStream(t).Stream(ctx, streamName(w.prefix))
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func (w *world) jetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(connect(t, w.nats))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func streamName(prefix string) string { return strings.ToUpper(prefix) + "_EVENTS" }

// inPlace checks that whatever is missing of the commits is missing before a
// gap that covers it and after the events committed before.
func inPlace(t testing.TB, commits []commit, msgs []*nats.Msg, prefix, channel string) {
	t.Helper()
	position := make(map[string]int, len(commits))
	for i, c := range commits {
		position[c.payload] = i
	}
	next := 0
	var gaps []api.Gap // since the last of the events
	for _, m := range msgs {
		switch m.Subject {
		case prefix + ".gap." + channel:
			var g api.Gap
			if err := json.Unmarshal(m.Data, &g); err != nil {
				t.Fatalf("gap %s: %v", m.Data, err)
			}
			gaps = append(gaps, g)
		case prefix + ".event." + channel:
			i, known := position[string(m.Data)]
			if !known {
				continue // another writer's
			}
			if i < next {
				t.Fatalf("%s: event %d came after event %d", channel, i, next-1)
			}
			for ; next < i; next++ {
				if !covered(commits[next], gaps) {
					t.Fatalf("%s: event %d is missing before event %d, and no gap there covers it: %s", channel, next, i, show(gaps))
				}
			}
			gaps, next = nil, i+1
		}
	}
	for ; next < len(commits); next++ {
		if !covered(commits[next], gaps) {
			t.Fatalf("%s: event %d is missing at the end, and no gap there covers it: %s", channel, next, show(gaps))
		}
	}
}

// chained checks what a stream holds from its first message on: every message
// has an id of its own and names its predecessor.
func chained(t testing.TB, msgs []*nats.Msg) {
	t.Helper()
	ids := map[string]bool{}
	last := ""
	for i, m := range msgs {
		id := m.Header.Get("Pgbridge-Id")
		if id == "" || ids[id] {
			t.Fatalf("message %d on %s has the id %q: missing or not its own", i+1, m.Subject, id)
		}
		if named := m.Header.Get(nats.MsgIdHdr); named != id && named != "" {
			t.Fatalf("message %d with the id %q calls itself %q to JetStream", i+1, id, named)
		}
		ids[id] = true
		after, sequence := m.Header.Get(nats.ExpectedLastMsgIdHdr), m.Header.Get(nats.ExpectedLastSeqHdr)
		if after != "" && after != last || after == "" && sequence != strconv.Itoa(i) {
			t.Fatalf("message %d names %q, sequence %q, as its predecessor; it is %q, sequence %d", i+1, after, sequence, last, i)
		}
		last = id
	}
}

// withUser returns a server's URL for one of its users, whose password is the
// name too.
func withUser(url, name string) string {
	return strings.Replace(url, "nats://", "nats://"+name+":"+name+"@", 1)
}
