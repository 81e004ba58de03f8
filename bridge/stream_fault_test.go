package bridge_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// audited is a bridge whose only channel goes to a stream that it must not
// create, and a writer.
func audited(t *testing.T) (*world, *running, *writer) {
	t.Helper()
	w := newWorld(t)
	config := w.config(t, map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}})
	config.Stream = bridge.Stream{DuplicateWindow: shortWindow}
	return w, launch(t, config), newWriter(t, w.pg, "audit")
}

// createStream makes the world's stream by hand.
func (w *world) createStream(t *testing.T, config jetstream.StreamConfig) {
	t.Helper()
	config.Name, config.Duplicates = streamName(w.prefix), shortWindow
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := w.jetStream(t).CreateOrUpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
}

// settled waits until a writer's last event is stored, and compares.
func (w *world) settled(t *testing.T, r *running, audit *writer) {
	t.Helper()
	audit.write(t, 1, 1, 100)
	w.awaitStored(t, audit.commits[len(audit.commits)-1].payload)
	testenv.Wait(t, patience, "the queue to be empty", func() bool { return r.Status().QueueBytes[bridge.DeliveryJetStream] == 0 })
	msgs := w.messages(t)
	chained(t, msgs)
	inPlace(t, audit.commits, msgs, w.prefix, "audit")
}

// askAgainAfter is for questions that nobody answers while a stream has no leader.
const askAgainAfter = 2 * time.Second

// awaitStored waits until the stream's last event has this body.
func (w *world) awaitStored(t *testing.T, body string) {
	t.Helper()
	js := w.jetStream(t)
	testenv.Wait(t, patience, "the stream to hold "+body, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), askAgainAfter)
		defer cancel()
		stream, err := js.Stream(ctx, streamName(w.prefix))
		if err != nil {
			return false
		}
		m, err := stream.GetLastMsgForSubject(ctx, w.prefix+".event.audit")
		return err == nil && string(m.Data) == body
	})
}

func TestStreamMissing(t *testing.T) {
	t.Parallel()
	w, r, audit := audited(t)
	r.hasProblem(t, streamName(w.prefix))
	r.logged(t, streamName(w.prefix), "does not exist")
	r.is(t, "publishing")
	testenv.Wait(t, patience, "the gap of the start to be queued", func() bool {
		return r.Status().QueueBytes[bridge.DeliveryJetStream] > 0
	})
	audit.write(t, 1000, 100, 100)
	w.createStream(t, jetstream.StreamConfig{Subjects: []string{"pgbridge.event.audit", "pgbridge.gap.audit"}})
	r.ready(t)
	w.settled(t, r, audit)
	if n := len(w.messages(t)); n != 1002 {
		t.Errorf("the stream holds %d messages, want 1001 events and one gap", n)
	}
}

func TestStreamSubjectMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.createStream(t, jetstream.StreamConfig{Subjects: []string{"pgbridge.event.*"}})
	config := w.config(t, map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}})
	config.Stream.Create = false
	r := launch(t, config)
	r.hasProblem(t, "pgbridge.gap.audit")
	r.hasProblem(t, streamName(w.prefix))
	audit := newWriter(t, w.pg, "audit")
	r.is(t, "publishing")
	w.createStream(t, jetstream.StreamConfig{Subjects: []string{"pgbridge.event.*", "pgbridge.gap.*"}})
	r.ready(t)
	audit.write(t, 100, 10, 100)
	w.settled(t, r, audit)
}

// A stream whose subjects grow at a reload keeps what it holds.
func TestStreamExtended(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	channels := map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}}
	r := launch(t, w.config(t, channels)).ready(t)
	audit := newWriter(t, w.pg, "audit")
	audit.write(t, 100, 10, 100)
	channels["more"] = bridge.Channel{Delivery: bridge.DeliveryJetStream}
	if err := r.Reload(channels); err != nil {
		t.Fatal(err)
	}
	w.heard.awaitGap(t, "more", api.ReasonStarted)
	w.settled(t, r, audit)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	want := []string{"pgbridge.event.audit", "pgbridge.event.more", "pgbridge.gap.audit", "pgbridge.gap.more"}
	if got := slices.Sorted(slices.Values(w.stream(ctx, t).CachedInfo().Config.Subjects)); !slices.Equal(got, want) {
		t.Errorf("subjects = %q, want %q", got, want)
	}
}

// Thousands of channels are one pattern of the stream, and a reload adds more.
func TestStreamOfManyChannels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	channels := map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}}
	add := func(n int) {
		for range n {
			channels["c"+strconv.Itoa(len(channels))] = bridge.Channel{Delivery: bridge.DeliveryJetStream}
		}
	}
	add(2_999)
	began := time.Now()
	r := launch(t, w.config(t, channels)).ready(t)
	t.Logf("3,000 channels were ready after %s", time.Since(began))
	audit := newWriter(t, w.pg, "audit")
	w.settled(t, r, audit)
	add(1)
	began = time.Now()
	if err := r.Reload(channels); err != nil {
		t.Fatal(err)
	}
	w.heard.awaitGap(t, "c3000", api.ReasonStarted)
	t.Logf("one more was reloaded after %s", time.Since(began))
	w.settled(t, r, audit)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	info := w.stream(ctx, t).CachedInfo()
	if got, want := info.Config.Subjects, []string{"pgbridge.event.*", "pgbridge.gap.*"}; !slices.Equal(got, want) {
		t.Errorf("subjects = %q, want %q", got, want)
	}
	if got, want := info.State.Msgs, uint64(3_001+2); got != want {
		t.Errorf("the stream holds %d messages, want %d: a gap of each channel and the events", got, want)
	}
}

func TestStreamDeleted(t *testing.T) {
	t.Parallel()
	x := newTrial(t, newWorld(t), nil)
	before := x.heardOf("audit")
	testenv.Wait(t, patience, "events to be stored", func() bool { return x.heardOf("audit") > before+100 })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := x.jetStream(t).DeleteStream(ctx, streamName(x.prefix)); err != nil {
		t.Fatal(err)
	}
	x.heard.awaitGap(t, "audit", api.ReasonNATSUnavailable)
	x.bridge.logged(t, "deleted", streamName(x.prefix))
	r := x.finish(t)
	stored := x.stored(t)
	chained(t, stored)
	if first := stored[0].Subject; first != "pgbridge.gap.audit" {
		t.Errorf("the new stream begins with a message on %s, want the gap", first)
	}
	if gaps := r["audit"].gaps; len(gaps) != 1 {
		t.Errorf("gaps of audit %s; want the one that says what was deleted", show(gaps))
	}
	if r["orders"].missing != 0 || len(r["orders"].gaps) != 1 {
		t.Errorf("orders: %d events missing, gaps %s; want none but the one of the start", r["orders"].missing, show(r["orders"].gaps))
	}
}

// heardOf counts the events of a channel heard so far.
func (x *trial) heardOf(channel string) int {
	return len(x.heard.events(x.prefix + ".event." + channel))
}

// Whoever purges the stream knows what he does: the bridge goes on.
func TestStreamPurged(t *testing.T) {
	t.Parallel()
	x := newTrial(t, newWorld(t), nil, func(c *bridge.Config) { c.Stream.DuplicateWindow = shortWindow })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 3 {
		before := x.heardOf("audit")
		testenv.Wait(t, patience, "events to be stored", func() bool { return x.heardOf("audit") > before+100 })
		if err := x.stream(ctx, t).Purge(ctx); err != nil {
			t.Fatal(err)
		}
	}
	x.bridge.ready(t)
	for _, s := range x.writers {
		x.heard.awaitEvent(t, "pgbridge.event."+s.channel, s.finish(t))
	}
	x.wantTail(t)
}

// wantTail wants the stream to hold the last of the events and not one twice.
func (x *trial) wantTail(t *testing.T) {
	t.Helper()
	audit := x.writers[2]
	next := -1
	for _, m := range x.stored(t) {
		_, number, _ := strings.Cut(string(m.Data), "-")
		n, err := strconv.Atoi(number)
		if err != nil || m.Subject != "pgbridge.event.audit" {
			t.Fatalf("stored on %s: %.100s", m.Subject, m.Data)
		}
		if next >= 0 && n != next {
			t.Fatalf("event %d is where event %d should be", n, next)
		}
		next = n + 1
	}
	if next != len(audit.commits) {
		t.Errorf("the stream ends before event %d of %d", next, len(audit.commits))
	}
}

// The stream is the bridge's alone. Somebody else's message breaks the chain,
// but not the order and not the events.
func TestStreamForeignMessage(t *testing.T) {
	t.Parallel()
	x := newTrial(t, newWorld(t), nil)
	js := x.jetStream(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 5 {
		before := x.heardOf("audit")
		testenv.Wait(t, patience, "events to be stored", func() bool { return x.heardOf("audit") > before+50 })
		if _, err := js.Publish(ctx, "pgbridge.event.audit", []byte("foreign")); err != nil {
			t.Fatal(err)
		}
	}
	x.bridge.logged(t, "did not publish", streamName(x.prefix))
	r := x.finish(t)
	if r["audit"].missing != 0 || len(r["audit"].gaps) != 1 {
		t.Errorf("audit: %d events missing, gaps %s; want none but the one of the start", r["audit"].missing, show(r["audit"].gaps))
	}
	if n := x.bridge.warnings(); n > 20 {
		t.Errorf("%d warnings for 5 foreign messages", n)
	}
}

// A stream that is full and refuses what is new makes the bridge wait.
func TestStreamFull(t *testing.T) {
	t.Parallel()
	w, r, audit := audited(t)
	config := jetstream.StreamConfig{Subjects: []string{"pgbridge.event.audit", "pgbridge.gap.audit"}, MaxMsgs: 301, Discard: jetstream.DiscardNew}
	w.createStream(t, config)
	r.ready(t)
	audit.write(t, 1000, 100, 100)
	r.hasProblem(t, "maximum messages exceeded")
	refused, next := audit.commits[300].payload, audit.commits[301].payload
	w.heard.awaitEvent(t, "pgbridge.event.audit", refused)
	began, heard, nextHeard := time.Now(), w.heard.count("pgbridge.event.audit", refused), w.heard.count("pgbridge.event.audit", next)
	testenv.Wait(t, patience, "three more attempts", func() bool { return w.heard.count("pgbridge.event.audit", refused) >= heard+3 })
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("three attempts took %s: the bridge spins", took)
	}
	if n := w.heard.count("pgbridge.event.audit", next); n > nextHeard+1 {
		t.Errorf("the event behind the refused one was published %d times more, want the first alone to be tried", n-nextHeard)
	}
	if n := r.warnings(); n > 5 {
		t.Errorf("%d warnings while the stream is full", n)
	}
	config.MaxMsgs = -1
	w.createStream(t, config)
	r.ready(t)
	w.settled(t, r, audit)
	if n := len(w.messages(t)); n != 1002 {
		t.Errorf("the stream holds %d messages, want 1001 events and one gap", n)
	}
}

// count tells how often a body was heard on a subject.
func (a *audience) count(subject, body string) int {
	n := 0
	for _, m := range a.all() {
		if m.Subject == subject && string(m.Data) == body {
			n++
		}
	}
	return n
}

func TestStreamInCluster(t *testing.T) {
	t.Parallel()
	cluster := testenv.Cluster(t, 3)
	w := &world{pg: testenv.Postgres(t).NewDatabase(t), nats: cluster.URL(), prefix: "pgbridge"}
	w.heard = listen(t, w.nats, w.prefix)
	config := w.config(t, map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}})
	config.Stream.Replicas, config.Stream.DuplicateWindow = 3, shortWindow
	r := launch(t, config).ready(t)
	audit := keepWriting(t, w.pg, "audit", "a")

	leader := nodeNamed(t, cluster, w.leader(t))
	burst := newWriter(t, w.pg, "audit")
	burst.write(t, testenv.Fewer(5000), 100, 100)
	cluster.Nodes[leader].Stop(t)
	burst.write(t, testenv.Fewer(5000), 100, 100)
	w.awaitLength(t, len(burst.commits))
	cluster.Nodes[leader].Start(t)
	cluster.WaitForLeader(t, 3)

	for _, i := range []int{0, 1} {
		cluster.Nodes[i].Stop(t)
	}
	r.hasProblem(t, "stream")
	burst.write(t, 1000, 100, 100)
	for _, i := range []int{0, 1} {
		cluster.Nodes[i].Start(t)
	}
	cluster.WaitForLeader(t, 3)
	r.ready(t)
	audit.finish(t)
	w.settled(t, r, burst)
	msgs := w.messages(t)
	inPlace(t, audit.commits, msgs, w.prefix, "audit")
	if n := len(msgs); n != 1+len(audit.commits)+len(burst.commits) {
		t.Errorf("the stream holds %d messages, want %d events and one gap", n, len(audit.commits)+len(burst.commits))
	}
}

// awaitLength waits until the stream holds so many messages.
func (w *world) awaitLength(t *testing.T, n int) {
	t.Helper()
	js := w.jetStream(t)
	testenv.Wait(t, patience, "the stream to grow", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), askAgainAfter)
		defer cancel()
		stream, err := js.Stream(ctx, streamName(w.prefix))
		return err == nil && stream.CachedInfo().State.Msgs >= uint64(n)
	})
}

// leader names the node that leads the world's stream.
func (w *world) leader(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return w.stream(ctx, t).CachedInfo().Cluster.Leader
}

func nodeNamed(t *testing.T, c *testenv.NATSCluster, name string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimPrefix(name, "node"))
	if err != nil || n < 1 || n > len(c.Nodes) {
		t.Fatalf("no node %q", name)
	}
	return n - 1
}
