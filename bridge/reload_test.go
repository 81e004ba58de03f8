package bridge_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x := newTrial(t, w, nil)
	base := map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}}
	late, lateStream := keepWriting(t, w.pg, "late", "l"), keepWriting(t, w.pg, "late stream", "m")
	more := maps.Clone(base)
	more["late"], more["late stream"] = bridge.Channel{}, bridge.Channel{Delivery: bridge.DeliveryJetStream}

	x.reload(t, more)
	for _, token := range []string{"late", "late%20stream"} {
		if g := w.heard.awaitGap(t, token, api.ReasonStarted); g.Since != nil || g.Dropped != nil {
			t.Errorf("the gap of an added channel is %+v, want since and dropped null", g)
		}
	}
	x.flows(t)
	last, lastStream := late.finish(t), lateStream.finish(t)
	w.heard.awaitEvent(t, "pgbridge.event.late", last)
	w.heard.awaitEvent(t, "pgbridge.event.late%20stream", lastStream)
	stored := w.recorded(t, lastStream)
	for name, err := range map[string]bool{
		"late":        late.judge(t, w.heard.events("pgbridge.event.late"), w.heard.gaps(t, "late")) == len(late.commits),
		"late stream": lateStream.judge(t, stored.events("pgbridge.event.late%20stream"), stored.gaps(t, "late%20stream")) == len(lateStream.commits),
	} {
		if err {
			t.Errorf("nothing of the added channel %q arrived", name)
		}
	}

	for i := range 5 { // removed, and added again
		x.reload(t, base)
		x.reload(t, more)
		testenv.Wait(t, patience, "the gap of the channel added again", func() bool { return len(w.heard.gaps(t, "late")) == i+2 })
	}
	x.reload(t, base)
	writer := newWriter(t, w.pg, "late")
	testenv.Wait(t, patience, "the channel to be silent", func() bool {
		before := len(w.heard.events("pgbridge.event.late"))
		writer.write(t, 1, 1, 0)
		x.flows(t)
		return len(w.heard.events("pgbridge.event.late")) == before
	})

	x.untouched(t)
}

func TestReloadRefused(t *testing.T) {
	t.Parallel()
	x := newTrial(t, newWorld(t), nil)
	refused := map[string]bridge.Channel{"orders": {Subject: "a..b"}, "new": {}, "bad": {Envelope: "xml"}}
	if got, want := keys(x.bridge.Reload(refused)), []string{"channels.bad.envelope", "channels.orders.subject"}; !slices.Equal(got, want) {
		t.Errorf("Reload with two faults names the keys %q, want %q", got, want)
	}
	if n := x.bridge.Status().Channels; n != 2 {
		t.Errorf("%d channels after a refused reload, want 2", n)
	}
	x.flows(t)
	x.untouched(t)
	if len(x.heard.gaps(t, "new")) != 0 || len(x.heard.gaps(t, "bad")) != 0 {
		t.Error("a refused reload added a channel")
	}
}

// untouched is finish, and insists that no reload disturbed the two channels.
func (x *trial) untouched(t *testing.T) {
	t.Helper()
	for _, r := range x.finish(t) {
		if r.missing != 0 || len(r.gaps) != 1 {
			t.Errorf("%s: %d events missing, gaps %s; want none: it was not touched", r.channel, r.missing, show(r.gaps))
		}
	}
	if x.connected() != 1 {
		t.Errorf("the listener connected %d times, want once", x.connected())
	}
}

// The channel's events go on under the new subject, and none is lost.
func TestReloadChangesChannel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.heard = listen(t, w.nats, "pgbridge", "moved")
	r := launch(t, w.config(t, map[string]bridge.Channel{"orders": {}})).ready(t)
	w.heard.awaitGap(t, "orders", api.ReasonStarted)
	s := keepWriting(t, w.pg, "orders", "a")
	testenv.Wait(t, patience, "events", func() bool { return len(w.heard.events("pgbridge.event.orders")) > 100 })
	if err := r.Reload(map[string]bridge.Channel{"orders": {Subject: "moved"}}); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, patience, "events on the new subject", func() bool { return len(w.heard.events("moved")) > 100 })
	w.heard.awaitEvent(t, "moved", s.finish(t))
	all := append(w.heard.events("pgbridge.event.orders"), w.heard.events("moved")...)
	if missing := s.judge(t, all, nil); missing != 0 || len(w.heard.gaps(t, "orders")) != 1 {
		t.Errorf("%d events missing, gaps %s; want none", missing, show(w.heard.gaps(t, "orders")))
	}
}

func (x *trial) reload(t *testing.T, channels map[string]bridge.Channel) {
	t.Helper()
	if err := x.bridge.Reload(channels); err != nil {
		t.Fatal(err)
	}
}

// A channel that stays loses nothing when most of the others are replaced, over a
// line on which there is time between two statements.
func TestReloadReplacesMost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line, err := testenv.NewDelay(parsed(t, w.pg).Host, 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Close)
	far := parsed(t, w.pg)
	far.Host = line.Addr()
	x := newTrial(t, w, nil, func(c *bridge.Config) { c.ConnString = far.String() })
	for round := range 5 {
		channels := map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}}
		for i := range 50 {
			channels[fmt.Sprintf("r%dc%d", round, i)] = bridge.Channel{}
		}
		x.reload(t, channels)
		x.heard.awaitGap(t, fmt.Sprintf("r%dc49", round), api.ReasonStarted)
		x.flows(t)
	}
	x.untouched(t)
}
