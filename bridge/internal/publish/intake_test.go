package publish

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/catchup"
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// sweptItems are an event, a gap for which a script is to be run, and an event.
func sweptItems(t *testing.T) []event.Item {
	t.Helper()
	r, err := event.NewRoute("orders", "pgbridge", event.RouteOptions{CatchUp: "missed", Stored: true})
	if err != nil {
		t.Fatal(err)
	}
	it := event.Item{Route: r, Counters: event.NewCounters("orders"), Epoch: &event.Epoch{ID: "00000000000000ff"}, N: 1, Received: time.Now()}
	gap := it
	gap.Kind, gap.Gap, gap.Sweep = event.KindGap, &api.Gap{Channel: "orders", Reason: api.ReasonReconnected, Until: time.Now()}, true
	return []event.Item{it, gap, it}
}

// sweptIntake is an intake of such items, whose script returns two rows and waits for ever
// as long as hang says so.
func sweptIntake(t *testing.T, hang *bool) *intake {
	q := queue.New(1 << 20)
	for _, it := range sweptItems(t) {
		q.Push(it)
	}
	s := &catchup.Sweeper{Begin: func(at time.Time) time.Time { return at }, Run: func(ctx context.Context, _ catchup.Window, row func(context.Context, []byte) error) error {
		for range 2 {
			if err := row(ctx, []byte("row")); err != nil {
				return err
			}
		}
		if *hang {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}}
	i := &intake{queue: q, log: zap.NewNop(), start: func(gap *event.Item) *catchup.Sweep { return s.Start(t.Context(), gap) }}
	i.refill()
	return i
}

// kinds takes what there is, and says what it is.
func (i *intake) kinds() (all []string) {
	for {
		it := i.next()
		if it == nil {
			synctest.Wait() // for a script that was begun just now
			it = i.next()
		}
		switch {
		case it == nil:
			return all
		case it.CaughtUp():
			all = append(all, "row")
		case it.Kind == event.KindGap && it.Gap.CatchUp != nil:
			all = append(all, "gap")
		case it.Kind == event.KindGap:
			all = append(all, "unswept gap")
		default:
			all = append(all, "event")
		}
	}
}

// Rows stand behind what was live before the loss, then the gap, then what is live. A
// script that is interrupted begins anew, and nothing of that order changes.
func TestOrderOfCatchingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := true
		i := sweptIntake(t, &hang)
		if got := i.kinds(); !slices.Equal(got, []string{"event", "row", "row"}) || !i.sweeping() {
			t.Fatalf("while the script runs there are %q", got)
		}
		i.pause()
		if i.sweeping() || i.empty() {
			t.Fatal("it is not to be taken again")
		}
		hang = false
		if got := i.kinds(); !slices.Equal(got, []string{"row", "row", "gap", "event"}) {
			t.Errorf("behind the interruption there are %q", got)
		}
		if !i.empty() || i.sweeping() {
			t.Error("something is left")
		}
	})
}

// A loss of another channel does not interrupt a script that runs: it could never end.
func TestNoAnnouncementWhileAScriptRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := true
		i := sweptIntake(t, &hang)
		i.kinds()
		r, err := event.NewRoute("other", "pgbridge", event.RouteOptions{Stored: true})
		if err != nil {
			t.Fatal(err)
		}
		p := &StreamPublisher{Queue: i.queue, intake: *i, lost: losses{r: {stats: event.NewCounters("other"), epoch: &event.Epoch{}}}}
		if p.announce(); !p.intake.sweeping() || len(p.lost) != 1 {
			t.Error("the script was interrupted for a gap")
		}
		p.intake.pause()
	})
}

// Neither a row nor a gap has a place that another replica knows. What has one is told,
// and behind which of them something was stored that would not be published again.
func TestRowsProveNoPlace(t *testing.T) {
	t.Parallel()
	items := sweptItems(t)
	row := items[0]
	row.Gap = items[1].Gap
	p := &StreamPublisher{}
	live := items[0]
	live.Number = 7
	p.prove(&flying{Item: live, id: "live", seq: 1})
	for seq, it := range []event.Item{row, items[1]} {
		p.place.apart = 0
		p.prove(&flying{Item: it, id: "apart", seq: uint64(seq + 2)})
		if p.proof.Position != "live" || p.proof.Number != 7 || p.proof.Seq != uint64(seq+2) || p.place.apart != 7 {
			t.Errorf("behind item %d what is proved is %+v, something stands apart behind number %d; want the event at 7", seq+1, p.proof, p.place.apart)
		}
	}
}

// One loss for which a script is to be run makes all of a channel's such.
func TestLossesAreSwept(t *testing.T) {
	t.Parallel()
	items := sweptItems(t)
	for _, ownFaults := range [][]bool{{true, false}, {false, true}, {false, false}} {
		l := losses{}
		for _, own := range ownFaults {
			l.add(&items[0], 1, api.ReasonNATSUnavailable, own)
		}
		if gap := l.gap(items[0].Route); !gap.Sweep || *gap.Gap.Dropped != 2 {
			t.Errorf("own faults %t: %+v, want that its script is run", ownFaults, gap)
		}
	}
	l := losses{}
	l.add(&items[0], 1, api.ReasonOverflow, true)
	if l.gap(items[0].Route).Sweep {
		t.Error("a script is to be run for what would be refused again")
	}
}

// A gap of core NATS whose script was cut off is not announced without its rows.
func TestGapWaitsForItsRows(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t).URL())
	items := sweptItems(t)
	b.lose(items[1:2])
	if !b.announce(nil) || len(b.lost) != 1 || len(b.window) != 0 {
		t.Errorf("%d losses wait and %d messages are on their way, want the loss alone", len(b.lost), len(b.window))
	}
}

// While a loss waits to be announced, what goes on names it: in the stream each message,
// in core NATS the last word.
func TestLossesOnTheWayAreNamed(t *testing.T) {
	t.Parallel()
	items := sweptItems(t)
	other, err := event.NewRoute("other", "pgbridge", event.RouteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	since := time.UnixMicro(1_893_456_000_000_000).UTC()
	lost := losses{other: {Loss: event.Loss{Reason: api.ReasonNATSUnavailable, Since: since}, stats: event.NewCounters("other"), epoch: &event.Epoch{}}}
	want := event.Open("").With("other", since)
	q := queue.New(1 << 20)
	stored := &StreamPublisher{Queue: q, intake: intake{queue: q}, lost: lost}
	stored.flight.reset()
	if stored.admit(&items[0]); stored.flight.len() != 1 || stored.flight.items()[0].Open != want {
		t.Errorf("%d messages are to be sent, want one that names %q", stored.flight.len(), want)
	}
	b := newBench(t, testenv.NATS(t).URL())
	b.lost, b.announceAt = lost, time.Now().Add(time.Hour)
	b.publishOne(t)
	if b.verify(); b.Queue.Proven().Open != want {
		t.Errorf("the word is %+v, want that it names %q", b.Queue.Proven(), want)
	}
}
