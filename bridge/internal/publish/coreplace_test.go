package publish

import (
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A replica that takes over and does not know how far the one before was cannot say where
// it stops itself, before something behind its own beginning has arrived.
func TestBeginningIsNotSettled(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t).URL())
	e := &event.Epoch{ID: "00000000000000ff", Time: time.Now()}
	b.Queue.Keep()
	over := b.Queue.Push(event.Item{Kind: event.KindTakeover, Epoch: e, Takeover: &event.Takeover{}})
	b.Queue.Push(event.Item{Kind: event.KindMarker, Epoch: e})
	if !b.goOn(over) {
		t.Fatal("goOn() = false with the lease and nothing of another's")
	}
	items, _ := b.Queue.Take()
	if len(items) != 2 || !b.Queue.Exposed() {
		t.Fatalf("%d items to publish, exposed %t; want 2, and that it is", len(items), b.Queue.Exposed())
	}
	for i, exposed := range []bool{true, false} {
		if !b.publish(&items[i]) {
			t.Fatal("publish() = false on a connection that works")
		}
		b.verify()
		if got := b.Queue.Exposed(); got != exposed {
			t.Errorf("behind item %d it is exposed %t, want %t", i+1, got, exposed)
		}
	}
	if at := b.Queue.Proven().Position; at != e.ID {
		t.Errorf("proved is %q, want the epoch %q", at, e.ID)
	}
}
