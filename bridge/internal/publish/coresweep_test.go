package publish

import (
	"context"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/catchup"
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

const patience = 60 * time.Second

// sweepBench is a core publisher whose script returns a row and waits.
type sweepBench struct {
	*bench
	since time.Time
	goOn  chan struct{}
	ended chan bool // what catchUp returned
	stop  context.CancelFunc
}

// startSweep loses something of a channel, and begins to run its script; the row has
// arrived when this returns.
func startSweep(t *testing.T, url string) *sweepBench {
	t.Helper()
	b := &sweepBench{bench: newBench(t, url), since: time.UnixMicro(1_900_000_000_000_000).UTC(), goOn: make(chan struct{}), ended: make(chan bool, 1)}
	r, err := event.NewRoute("orders", "pgbridge", event.RouteOptions{CatchUp: "missed"})
	if err != nil {
		t.Fatal(err)
	}
	b.route = r
	b.Sweeper = &catchup.Sweeper{Begin: func(at time.Time) time.Time { return at }, Run: func(ctx context.Context, _ catchup.Window, row func(context.Context, []byte) error) error {
		if err := row(ctx, []byte("1")); err != nil {
			return err
		}
		select {
		case <-b.goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	t.Cleanup(b.Sweeper.Wait)
	b.lost[r] = &unsent{Loss: event.Loss{Reason: api.ReasonReconnected, Since: b.since, Dropped: event.UnknownCount},
		stats: b.stats, until: b.since.Add(time.Second), epoch: &event.Epoch{ID: "e", Time: b.since}, sweep: true}
	ctx, stop := context.WithCancel(t.Context())
	b.stop = stop
	t.Cleanup(stop)
	generation := b.Queue.Generation()
	go func() { b.ended <- b.catchUp(ctx, nil, func() bool { return b.Queue.Current(generation) }) }()
	testenv.Wait(t, patience, "the row to arrive", func() bool { return b.stats.Rows.Load() == 1 })
	return b
}

// While a script runs, the last word names its channel: whoever takes over then has to do
// it again. Behind the gap it does not.
func TestWordWhileAScriptRuns(t *testing.T) {
	t.Parallel()
	b := startSweep(t, testenv.NATS(t).URL())
	want := event.Open("").With("orders", b.since)
	testenv.Wait(t, patience, "the loss to be named", func() bool { return b.Queue.Proven().Open == want })
	close(b.goOn)
	if done := <-b.ended; !done {
		t.Fatal("catchUp() = false, want that it ended")
	}
	b.verify()
	if open := b.Queue.Proven().Open; open != "" || len(b.lost) != 0 {
		t.Errorf("behind the gap the word names %q, and %d losses are left", open, len(b.lost))
	}
}

// A script that is cut off leaves the loss as it was.
func TestScriptThatIsCutOff(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	for name, cut := range map[string]func(*sweepBench){
		"stopped":      func(b *sweepBench) { b.stop() },
		"unlinked":     func(b *sweepBench) { b.NC.Close() },
		"unleased":     func(b *sweepBench) { b.Lease.End() },
		"not its turn": func(b *sweepBench) { b.Queue.Keep() },
	} {
		b := startSweep(t, server.URL())
		cut(b)
		if done := <-b.ended; done {
			t.Errorf("%s: catchUp() = true, want that it is to be done again", name)
		}
		if u := b.lost[b.route]; u == nil || !u.sweep || !u.Since.Equal(b.since) || b.sweeping != nil {
			t.Errorf("%s: the loss is %+v, want it as it was", name, u)
		}
	}
}
