package publish

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/stream"
)

const (
	holderPID   = 7
	holderEpoch = "00000000000000ff"
)

var streamCreated = time.Unix(0, 1_861_920_000_000_000_000).UTC()

// follower is a sequencer whose publishing replica has said its last word while losses
// of both channels were not announced, since a moment.
func follower(t *testing.T) (s *sequence.Sequencer, since time.Time) {
	t.Helper()
	since = time.UnixMicro(1_893_456_000_000_000).UTC()
	limits := queue.Limits{Queue: 1 << 20, Ring: 1 << 20, Kept: 1 << 20}
	s = &sequence.Sequencer{Replica: "r", Marker: "marker", Lease: lease.New(), Core: queue.NewRing(limits), Stream: queue.NewRing(limits), Now: time.Now, WantMarker: func() {}}
	routes := map[string]*event.Route{}
	for channel, stored := range map[string]bool{"orders": false, "audit": true} {
		r, err := event.NewRoute(channel, "pgbridge", event.RouteOptions{Stored: stored, CatchUp: "missed"})
		if err != nil {
			t.Fatal(err)
		}
		routes[channel] = r
	}
	s.SetChannels(routes, event.NewCounters)
	s.HeldBy(holderPID)
	for number, word := range []string{"0,0,,/,,0", fmt.Sprintf("%d,3,%s,audit@%d/%[2]s,orders@%[3]d,true", streamCreated.UnixNano(), holderEpoch, since.UnixMicro())} {
		epoch := holderEpoch
		if number > 0 {
			epoch = "00000000000000fe"
		}
		s.Notification("marker", fmt.Sprintf("other/%s %d %s publishing 0 %d", word, number+1, epoch, since.UnixMicro()+int64(number)), holderPID)
	}
	m := s.Sending(false) // what tells PostgreSQL's clock
	s.Sent(m)
	s.Notification("marker", m.Head()+fmt.Sprint(since.Add(time.Minute).UnixMicro()), 8)
	return s, since
}

// takesOver queues what a replica that takes over announces of its own: nothing.
func takesOver(q *queue.Queue) (over uint64) {
	return q.Push(event.Item{Kind: event.KindTakeover, Epoch: &event.Epoch{ID: "00000000000000fd"}, Takeover: &event.Takeover{}})
}

// What the replica before had lost and not announced is caught up with by the next one,
// which goes on where that one stopped.
func TestOpenLossesAreTakenOver(t *testing.T) {
	t.Parallel()
	s, since := follower(t)
	wanted := func(name string, sweep bool, g *api.Gap) {
		t.Helper()
		if !sweep || g.Since == nil || !g.Since.Equal(since) || g.Reason != api.ReasonTakeover {
			t.Errorf("%s: %s, its script to be run: %t; want what was lost since %s", name, g.Body(), sweep, since)
		}
	}

	core := &CorePublisher{Queue: s.Core, Seq: s, Lease: s.Lease, Log: zap.NewNop(), lost: losses{}}
	if !core.goOn(takesOver(s.Core)) || core.place.lost != 0 || len(core.lost) != 1 {
		t.Fatalf("in core NATS it goes on with %d losses, where another stopped: %t; want one, there", len(core.lost), core.place.lost == 0)
	}
	for r := range core.lost {
		gap := core.lost.gap(r)
		wanted("core", gap.Sweep, gap.Gap)
	}

	takesOver(s.Stream)
	stored := &StreamPublisher{Queue: s.Stream, Seq: s, Lease: s.Lease, Log: zap.NewNop(), Stream: NewEventStream(nil, "pgbridge", stream.Need{}),
		Problem: problem.New(part.Publish, error.Error), state: searching, intake: intake{queue: s.Stream}}
	if !stored.goOn(context.Background(), streamTail{created: streamCreated, seq: 3}) || stored.place.lost != 0 || len(stored.intake.rest) != 1 {
		t.Fatalf("in the stream it goes on with %d gaps, where another stopped: %t; want one, there", len(stored.intake.rest), stored.place.lost == 0)
	}
	gap := stored.intake.rest[0]
	wanted("stream", gap.Sweep, gap.Gap)
}
