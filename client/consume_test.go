package client_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// consuming is a stream of events with no pgbridge, and what consumes it.
type consuming struct {
	testing.TB
	bus    *testenv.NATSServer
	link   *testenv.Proxy // the client's
	js     jetstream.JetStream
	client *client.Client
	ctx    func() context.Context
}

func newConsuming(t *testing.T) *consuming {
	bus := testenv.NATS(t)
	keep := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond)}
	js, err := jetstream.New(bus.Connect(t, keep...))
	if err != nil {
		t.Fatal(err)
	}
	link := testenv.NewProxy(t, bus.Addr())
	nc, err := nats.Connect(link.Reroute(t, bus.URL()), keep...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c, err := client.New(nc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*harness.Patience) // the library notices some things after 30 s
	t.Cleanup(cancel)
	w := &consuming{t, bus, link, js, c, func() context.Context { return ctx }}
	w.create()
	return w
}

func (w *consuming) create() {
	testenv.Wait(w, harness.Patience, "the stream", func() bool { // the server may be removing the folder of the last one
		_, err := w.js.CreateStream(w.ctx(), jetstream.StreamConfig{Name: "PGBRIDGE_EVENTS", Subjects: []string{"pgbridge.event.>"}})
		return err == nil
	})
}

func (w *consuming) publish(payloads ...string) {
	w.Helper()
	for _, p := range payloads {
		testenv.Wait(w, harness.Patience, "the stream to take an event", func() bool {
			ctx, cancel := context.WithTimeout(w.ctx(), 5*time.Second) // a restart can swallow it
			defer cancel()
			_, err := w.js.Publish(ctx, "pgbridge.event.orders", []byte(p))
			return err == nil
		})
	}
}

// A stream with the same name begins at 1 again, and the library goes on behind what it has
// had of the one before.
func TestConsumeAStreamThatIsMadeAnew(t *testing.T) {
	t.Parallel()
	for from, o := range map[string]client.ConsumeOptions{"first": {Sequence: 1}, "next": {}} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			w := newConsuming(t)
			w.publish("one", "two", "three")
			k, err := w.client.Consume(w.ctx(), o)
			if err != nil {
				t.Fatal(err)
			}
			w.publish("four")
			var got []string
			for ev, err := range k.Events(w.ctx()) {
				if err != nil {
					got = append(got, err.Error())
					break
				}
				if got = append(got, string(ev.Payload)); string(ev.Payload) == "four" {
					if err := w.js.DeleteStream(w.ctx(), "PGBRIDGE_EVENTS"); err != nil {
						t.Fatal(err)
					}
					w.create()
					w.publish("five")
				}
			}
			if said := strings.Join(got, " "); !strings.HasSuffix(said, "four consume: the stream was deleted and made anew") {
				t.Errorf("what came: %s", said)
			}
		})
	}
}

// The server forgets the consumer when it is restarted, and what comes before there is
// another one is new, too.
func TestConsumeNewOverARestart(t *testing.T) {
	t.Parallel()
	w := newConsuming(t)
	w.publish("old")
	k, err := w.client.Consume(w.ctx(), client.ConsumeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	type came struct {
		event client.Event
		err   error
	}
	first := make(chan came, 1)
	go func() {
		for ev, err := range k.Events(w.ctx()) {
			first <- came{ev, err}
			return
		}
	}()
	testenv.Wait(t, harness.Patience, "the consumer to wait", func() bool {
		stream, err := w.js.Stream(w.ctx(), "PGBRIDGE_EVENTS")
		if err != nil {
			return false
		}
		for c := range stream.ListConsumers(w.ctx()).Info() {
			if c.NumWaiting > 0 {
				return true
			}
		}
		return false
	})
	w.link.Freeze()
	w.bus.Stop(t)
	w.bus.Start(t)
	w.publish("new")
	w.link.Cut()
	w.link.Thaw()
	if got := <-first; got.err != nil || string(got.event.Payload) != "new" {
		t.Errorf("the first event is %s %v, want the one behind the restart", got.event.Payload, got.err)
	}
}
