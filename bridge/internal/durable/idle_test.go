package durable

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestLinkThatBrokeWhileNothingHappens holds that a replica is ready again without
// waiting for an event.
func TestLinkThatBrokeWhileNothingHappens(t *testing.T) {
	t.Parallel()
	pg, ns := testenv.Postgres(t), testenv.NATS(t)
	w := newWorld(t, pg, ns.URL())
	link := testenv.NewProxy(t, ns.Addr())
	through := *w
	through.nats = link.Reroute(t, w.nats)
	feed := through.run([]string{"a"})
	testenv.Wait(t, patience, "the first gap", func() bool { return len(w.messages()) == 1 })
	link.Cut()
	testenv.Wait(t, patience, "the publisher to notice", func() bool { return feed.logs.FilterMessage("retrying").Len() > 0 })
	testenv.Wait(t, patience, "the replica to be ready", func() bool { return feed.Problem.Current() == "" })
	if err := feed.stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
}
