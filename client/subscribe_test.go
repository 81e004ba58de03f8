package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// receiver takes events one at a time.
type receiver struct {
	t    testing.TB
	next func() (client.Event, error, bool)
}

func receive(t testing.TB, events iter.Seq2[client.Event, error]) *receiver {
	next, stop := iter.Pull2(events)
	t.Cleanup(stop)
	return &receiver{t, next}
}

func (r *receiver) event() client.Event {
	r.t.Helper()
	ev, err, more := r.next()
	if err != nil || !more {
		r.t.Fatalf("no event: %v, more: %t", err, more)
	}
	return ev
}

func (r *receiver) payload(want string) client.Event {
	r.t.Helper()
	ev := r.event()
	if ev.Gap != nil || string(ev.Payload) != want || ev.Channel != "orders" {
		r.t.Fatalf("the event is %+v %q (gap %+v), want %q", ev, ev.Payload, ev.Gap, want)
	}
	return ev
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{channel: &bridge.Channel{Notify: true}})
	c := w.client(client.Options{})
	sub, err := c.Subscribe(w.ctx(), client.SubscribeOptions{Channels: []string{"orders"}})
	w.ok(err)
	defer sub.Close()
	events := receive(t, sub.Events(w.ctx()))
	w.SQL("SELECT pg_notify('orders', 'one')")
	events.payload("one")
	w.ok(c.Notify(w.ctx(), "orders", []byte("two")))
	events.payload("two")
	w.failure(c.Notify(w.ctx(), "nothing", nil), client.CodeNotFound)

	// The listener's connection goes away: a gap, and what comes after it.
	testenv.TerminateBackend(t, w.Postgres, "%")
	gap := events.event()
	if gap.Gap == nil || gap.Channel != "orders" || gap.Gap.Reason == "" || gap.Gap.Until.IsZero() {
		t.Fatalf("the event is %+v, want a gap", gap)
	}
	w.SQL("SELECT pg_notify('orders', 'three')")
	events.payload("three")
}

// TestSubscriberLosesItsLink finds the gap that pgbridge cannot know of, before
// whatever came after it.
func TestSubscriberLosesItsLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	proxy := testenv.NewProxy(t, w.NATS.Addr())
	c := w.clientOn(harness.Requests(w, proxy.Reroute(t, w.NATS.URL())), client.Options{})
	sub, err := c.Subscribe(w.ctx(), client.SubscribeOptions{})
	w.ok(err)
	defer sub.Close()
	events := receive(t, sub.Events(w.ctx()))
	for i := range 5 {
		before := fmt.Sprintf("before %d", i)
		w.ok(w.Client.Publish("pgbridge.event.orders", []byte(before)))
		w.ok(w.Client.Flush())
		for string(events.event().Payload) != before { // the rest of the last time
		}
		links := proxy.Accepted()
		proxy.Cut()
		testenv.Wait(t, harness.Patience, "the link to be back", func() bool { return proxy.Accepted() > links })
		// Until it is subscribed again nothing arrives.
		testenv.Wait(t, harness.Patience, "an event after the cut", func() bool {
			w.ok(w.Client.Publish("pgbridge.event.orders", []byte("after")))
			w.ok(w.Client.Flush())
			return sub.Waiting() > 0
		})
		if ev := events.event(); ev.Gap == nil || ev.Gap.Reason != client.ReasonDisconnected {
			t.Fatalf("cut %d: %q came before the gap", i, ev.Payload)
		}
		events.payload("after")
	}
}

func TestSlowSubscriber(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	sub, err := w.client(client.Options{}).Subscribe(w.ctx(), client.SubscribeOptions{Channels: []string{"orders"}, Buffer: 10})
	w.ok(err)
	defer sub.Close()
	for i := range 1000 {
		w.ok(w.Client.Publish("pgbridge.event.orders", fmt.Append(nil, i)))
	}
	w.ok(w.Client.Flush())
	testenv.Wait(t, harness.Patience, "events to be dropped", func() bool { return sub.Waiting() == 10 && w.Client.Stats().InMsgs >= 1000 })
	events := receive(t, sub.Events(w.ctx()))
	ev := events.event()
	if ev.Gap == nil || ev.Gap.Reason != client.ReasonSlow || ev.Gap.Dropped == nil || *ev.Gap.Dropped != 990 {
		t.Errorf("the event is %q, gap %+v, want one of 990", ev.Payload, ev.Gap)
	}
	events.payload("0")
}

func TestSubscriptionEnds(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	nc := bus.Connect(t)
	c, err := client.New(nc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := c.Subscribe(t.Context(), client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range sub.Events(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after the context: %v", err)
		}
	}
	nc.Close()
	for _, err := range sub.Events(t.Context()) {
		if !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("on a closed connection: %v", err)
		}
	}
	sub.Close()
}

func TestConsume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{channel: &bridge.Channel{Delivery: bridge.DeliveryJetStream}})
	c := w.client(client.Options{})
	consume := func() *receiver {
		k, err := c.Consume(w.ctx(), client.ConsumeOptions{Durable: "test", Channels: []string{"orders"}})
		w.ok(err)
		next, stop := iter.Pull2(k.Events(w.ctx()))
		t.Cleanup(stop)
		return &receiver{t, func() (client.Event, error, bool) {
			ev, err, more := next()
			if strings.HasSuffix(string(ev.Payload), "last") {
				stop()
			}
			return ev, err, more
		}}
	}
	events := consume()
	if first := events.event(); first.Gap == nil || first.Gap.Reason != "started" || first.Gap.Since != nil || first.ID == "" {
		t.Fatalf("the first event is %+v, want the gap of the start", first)
	}
	w.SQL("SELECT pg_notify('orders', 'one'), pg_notify('orders', 'two, the last'), pg_notify('orders', 'three')")
	events.payload("one")
	two := events.payload("two, the last") // the loop is left in it
	again := consume()
	harness.Equal(t, "id", again.payload("two, the last").ID, two.ID)
	if _, err := c.Consume(w.ctx(), client.ConsumeOptions{Stream: "NOWHERE"}); err == nil {
		t.Error("a stream that does not exist was consumed")
	}
	js, err := jetstream.New(w.Client)
	w.ok(err)
	testenv.Wait(w, harness.Patience, "the last of these events to be stored", func() bool {
		stored, err := js.Stream(w.ctx(), "PGBRIDGE_EVENTS")
		return err == nil && stored.CachedInfo().State.Msgs == 4
	})
	k, err := c.Consume(w.ctx(), client.ConsumeOptions{})
	w.ok(err)
	now := receive(t, k.Events(w.ctx()))
	w.SQL("SELECT pg_notify('orders', 'four')")
	now.payload("four")
}

// NATS says to the connection alone that a subscription may be no more, and the connection
// stays: a subscriber is not left to wait for events that cannot come.
func TestSubscriptionIsTakenAway(t *testing.T) {
	t.Parallel()
	user := func(subjects ...string) []*server.User {
		return []*server.User{{Username: "reader", Password: "x", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: subjects}}}}
	}
	bus := testenv.NATS(t, func(o *server.Options) { o.Users = user("pgbridge.>") })
	c, err := client.New(bus.Connect(t, nats.UserInfo("reader", "x"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	sub, err := c.Subscribe(ctx, client.SubscribeOptions{Channels: []string{"orders"}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	bus.Reload(t, func(o *server.Options) { o.Users = user("pgbridge.gap.>") })
	for _, err = range sub.Events(ctx) {
	}
	if !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("the events end with %v, want what NATS says", err)
	}
}

func TestSubscribeWithoutRoom(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t, func(o *server.Options) { o.MaxSubs = 1 })
	c, err := client.New(bus.Connect(t, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(t.Context(), client.SubscribeOptions{}); !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		t.Errorf("Subscribe() = %v, want that there may be no more", err)
	}
}
