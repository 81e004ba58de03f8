package bridge_test

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// burstOf returns how many events a burst has: enough for the publisher to use batches
// of many, and for something to go wrong in the middle of one.
func burstOf() int { return testenv.Fewer(20_000) }

// stores says how the stream is written.
type stores string

const (
	inBatches stores = "batches"
	inChain   stores = "chain"
)

// bothWays runs a test on a stream that takes fast batches and on one that does
// not. with makes the bridge write one or the other.
func bothWays(t *testing.T, test func(t *testing.T, how stores)) {
	t.Parallel()
	for _, how := range []stores{inBatches, inChain} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			test(t, how)
		})
	}
}

// channel configures the world's bridge for one channel, audit, whose stream is
// written so. A stream that lacks a setting keeps lacking it if the bridge may
// not change it.
func (how stores) channel(t *testing.T, w *world) bridge.Config {
	t.Helper()
	config := w.config(t, map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}})
	config.Stream.DuplicateWindow = shortWindow
	if how == inChain {
		config.Stream.Create = false
		w.createStream(t, jetstream.StreamConfig{Subjects: []string{"pgbridge.event.audit", "pgbridge.gap.audit"}})
	}
	return config
}

// used fails unless bursts are written as they should be. One that is read slower than
// it is published makes no batch of many: then there are more of them.
func (how stores) used(t *testing.T, w *world, audit *writer) {
	t.Helper()
	many := func() (n int) {
		for _, m := range w.heard.all() {
			if strings.Contains(m.Reply, ".500.fail.") {
				n++
			}
		}
		return n
	}
	if n := many(); how == inChain && n > 0 {
		t.Errorf("%d messages were sent in batches of many", n)
	}
	for limit := 20; how == inBatches && many() == 0; limit-- {
		if limit == 0 {
			t.Fatal("no message was sent in a batch of many")
		}
		audit.write(t, burstOf(), burstOf(), 200)
		w.awaitStored(t, audit.commits[len(audit.commits)-1].payload)
	}
}

// burst writes many notifications, and returns how to wait for the last.
func (w *writer) burst(t *testing.T) (wait func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < burstOf() && err == nil; n += 100 {
			err = w.transaction(100, 200)
		}
		done <- err
	}()
	return func() {
		t.Helper()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// More is stored than was acknowledged when the server is killed.
func TestServerKilledInABurst(t *testing.T) {
	bothWays(t, func(t *testing.T, how stores) {
		server := testenv.NATSProcess(t, "")
		w := worldWith(t, server)
		r := launch(t, how.channel(t, w)).ready(t)
		audit := newWriter(t, w.pg, "audit")
		wait := audit.burst(t)
		for _, n := range []int{burstOf() / 8, burstOf() / 3} {
			w.awaitLength(t, n)
			server.Kill(t)
			server.Start(t)
		}
		wait()
		w.settled(t, r, audit)
		if n := len(w.messages(t)); n != 1+burstOf()+1 {
			t.Errorf("the stream holds %d messages, want %d events and one gap", n, burstOf()+1)
		}
		how.used(t, w, audit)
	})
}

// Another publisher's message takes the place of one that is on its way: nothing
// that comes behind is stored before that one is.
func TestForeignMessagesInABurst(t *testing.T) {
	bothWays(t, func(t *testing.T, how stores) {
		w := newWorld(t)
		r := launch(t, how.channel(t, w)).ready(t)
		audit := newWriter(t, w.pg, "audit")
		js := w.jetStream(t)
		wait := audit.burst(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for i := range 10 {
			w.awaitLength(t, (i+1)*burstOf()/20)
			if _, err := js.Publish(ctx, "pgbridge.gap.audit", []byte(`{"reason": "foreign"}`)); err != nil {
				t.Fatal(err)
			}
		}
		wait()
		audit.write(t, 1, 1, 100)
		w.awaitStored(t, audit.commits[len(audit.commits)-1].payload)
		r.logged(t, "did not publish")
		if n := judge(t, audit.commits, w.recorded(t, audit.commits[len(audit.commits)-1].payload).events("pgbridge.event.audit"), nil); n != 0 {
			t.Errorf("%d events are missing", n)
		}
		how.used(t, w, audit)
	})
}

// A stream that is made anew repeats sequences.
func TestStreamDeletedInABurst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := launch(t, inBatches.channel(t, w)).ready(t)
	audit := newWriter(t, w.pg, "audit")
	wait := audit.burst(t)
	w.awaitLength(t, burstOf()/8)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.jetStream(t).DeleteStream(ctx, streamName(w.prefix)); err != nil {
		t.Fatal(err)
	}
	wait()
	w.settled(t, r, audit)
	if first := w.messages(t)[0].Subject; first != "pgbridge.gap.audit" {
		t.Errorf("the new stream begins with a message on %s, want the gap", first)
	}
}

// A stream from before fast batches is given them, and goes on.
func TestStreamUpgraded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := launch(t, inChain.channel(t, w)).ready(t)
	audit := newWriter(t, w.pg, "audit")
	audit.write(t, 500, 100, 100)
	w.awaitStored(t, audit.commits[499].payload)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = launch(t, inBatches.channel(t, w)).ready(t)
	audit.write(t, burstOf(), burstOf(), 200) // at once: a slow writer's would not make a batch of many
	w.settled(t, r, audit)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !w.stream(ctx, t).CachedInfo().Config.AllowBatchPublish {
		t.Error("the stream does not take batches")
	}
	inBatches.used(t, w, audit)
}
