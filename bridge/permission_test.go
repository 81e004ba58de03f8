package bridge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// guarded is a world whose NATS server denies the user "bridge" some subjects.
func guarded(t *testing.T, deny server.Permissions) *world {
	t.Helper()
	n := testenv.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "bridge", Password: "bridge", Permissions: &deny},
			{Username: "audience", Password: "audience"},
		}
	})
	w := &world{pg: testenv.Postgres(t).NewDatabase(t), nats: withUser(n.URL(), "bridge"), prefix: "pgbridge"}
	w.heard = listen(t, withUser(n.URL(), "audience"), w.prefix)
	return w
}

func denyPublish(subjects ...string) server.Permissions {
	return server.Permissions{Publish: &server.SubjectPermission{Deny: subjects}}
}

// A refused subject costs its own channel everything, and the others at most
// what was on its way when the refusal came.
func TestPublishRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		deny []string
	}{
		{"event", []string{"pgbridge.event.secret"}},
		{"event and gap", []string{"pgbridge.event.secret", "pgbridge.gap.secret"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := guarded(t, denyPublish(tt.deny...))
			config := w.config(t, map[string]bridge.Channel{"secret": {}, "orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}})
			config.StopGrace = time.Second // a gap that is refused is offered to the end
			r := launch(t, config)
			w.heard.awaitGap(t, "orders", api.ReasonStarted)
			w.heard.awaitGap(t, "audit", api.ReasonStarted)
			secret, orders, audit := newWriter(t, w.pg, "secret"), newWriter(t, w.pg, "orders"), newWriter(t, w.pg, "audit")
			for range 20 {
				secret.write(t, 10, 10, 20)
				orders.write(t, 10, 10, 20)
				audit.write(t, 10, 10, 20)
			}
			r.logged(t, "pgbridge.event.secret", "publish")
			r.hasProblem(t, "pgbridge.event.secret")
			for _, o := range []*writer{orders, audit} {
				w.heard.awaitEvent(t, "pgbridge.event."+o.channel, o.commits[len(o.commits)-1].payload)
			}
			inPlace(t, orders.commits, w.heard.all(), w.prefix, "orders")
			if n := judge(t, audit.commits, w.heard.events("pgbridge.event.audit"), nil); n != 0 {
				t.Errorf("audit: %d events are missing", n)
			}
			if gaps := w.heard.gaps(t, "orders"); len(gaps) > 2 {
				t.Errorf("gaps of orders %s; want the one of the start and one more at the most", show(gaps))
			}
			if len(tt.deny) == 1 {
				w.countsEach(t, secret)
			}
			if n := len(w.heard.events("pgbridge.event.secret")); n != 0 {
				t.Errorf("%d events passed though they were refused", n)
			}
			if n := r.warnings(); n > 10 {
				t.Errorf("%d warnings; want a few", n)
			}
		})
	}
}

// countsEach checks the gaps of a refused channel. The first covers what was on
// its way when the refusal came, the ones after it count every event.
func (w *world) countsEach(t *testing.T, secret *writer) {
	t.Helper()
	cover := func() {
		t.Helper()
		last := secret.commits[len(secret.commits)-1]
		testenv.Wait(t, patience, "a gap over the last event", func() bool { return covered(last, w.heard.gaps(t, "secret")) })
	}
	cover()
	first := len(w.heard.gaps(t, "secret"))
	secret.write(t, 60, 20, 20)
	cover()
	gaps := w.heard.gaps(t, "secret")
	judge(t, secret.commits, nil, gaps)
	counted := int64(0)
	for _, g := range gaps[first:] {
		if g.Reason != api.ReasonNATSUnavailable || g.Dropped == nil {
			t.Fatalf("gap %+v; want nats_unavailable and a count", g)
		}
		counted += *g.Dropped
	}
	if counted != 60 || len(gaps) > 8 {
		t.Errorf("%d gaps %s count %d events, want 60 in a few gaps", len(gaps), show(gaps), counted)
	}
}

// A stream keeps the order of all its channels. A subject that NATS refuses costs
// its own channel everything, counted, and the others nothing.
func TestStreamPublishRefused(t *testing.T) {
	t.Parallel()
	var options *server.Options
	deny := denyPublish("pgbridge.event.secret")
	n := testenv.NATS(t, func(o *server.Options) {
		options = o
		o.Users = []*server.User{
			{Username: "bridge", Password: "bridge", Permissions: &deny},
			{Username: "audience", Password: "audience"},
		}
	})
	w := &world{pg: testenv.Postgres(t).NewDatabase(t), nats: withUser(n.URL(), "bridge"), prefix: "pgbridge"}
	stored := bridge.Channel{Delivery: bridge.DeliveryJetStream}
	r := launch(t, w.config(t, map[string]bridge.Channel{"secret": stored, "audit": stored})).ready(t)
	secret, audit := newWriter(t, w.pg, "secret"), newWriter(t, w.pg, "audit")
	for range 10 {
		secret.write(t, 50, 10, 50)
		audit.write(t, 100, 10, 50)
	}
	r.hasProblem(t, `"pgbridge.event.secret"`)
	r.logged(t, "permissions violation", "pgbridge.event.secret")
	w.settled(t, r, audit)
	testenv.Wait(t, patience, "the gaps of the refused channel to count its 500 events", func() bool { return w.counted(t, "secret") == 500 })
	n.Stop(t)
	options.Users[0].Permissions = nil
	n.Start(t)
	// An event that comes before the new connection is refused unseen, as those before it.
	testenv.Wait(t, patience, "the subject to be taken again", func() bool {
		secret.write(t, 1, 1, 50)
		return len(r.Problems()) == 0
	})
	w.settled(t, r, audit)
	inPlace(t, secret.commits, w.messages(t), w.prefix, "secret")
	if n := r.warnings(); n > 10 {
		t.Errorf("%d warnings; want a few", n)
	}
}

// Whoever may notify chooses the subjects of a template: as many as NATS refuses, other
// channels do not wait for each of them.
func TestManySubjectsRefused(t *testing.T) {
	t.Parallel()
	w := guarded(t, denyPublish("secret.*.secret"))
	stored := bridge.Channel{Delivery: bridge.DeliveryJetStream}
	secret := stored
	secret.Subject = "secret.{payload.to}.{channel}"
	r := launch(t, w.config(t, map[string]bridge.Channel{"secret": secret, "audit": stored})).ready(t)
	testenv.Exec(t, w.pg, `SELECT pg_notify('secret', '{"to": 0}')`)
	r.hasProblem(t, `"secret.0.secret"`)
	testenv.Wait(t, patience, "the first to be given up", func() bool { return w.counted(t, "secret") == 1 })
	testenv.Exec(t, w.pg, `SELECT pg_notify('secret', '{"to": ' || i || '}') FROM generate_series(1, 100) i`)
	testenv.Exec(t, w.pg, `SELECT pg_notify('audit', 'behind them')`)
	w.heard.awaitEvent(t, "pgbridge.event.audit", "behind them")
	testenv.Wait(t, patience, "the gaps to count 101 events", func() bool { return w.counted(t, "secret") == 101 })
}

// What NATS refuses of one delivery costs the other one's channels no event: both use one
// connection, on which NATS tells of it.
func TestRefusalOfAnotherDelivery(t *testing.T) {
	t.Parallel()
	w := guarded(t, denyPublish("secret.*.secret"))
	secret := bridge.Channel{Delivery: bridge.DeliveryJetStream, Subject: "secret.{payload.to}.{channel}"}
	launch(t, w.config(t, map[string]bridge.Channel{"secret": secret, "orders": {}})).ready(t)
	orders := newWriter(t, w.pg, "orders")
	for i := range 30 {
		testenv.Exec(t, w.pg, fmt.Sprintf(`SELECT pg_notify('secret', '{"to": %d}')`, i))
		orders.write(t, 20, 1, 20)
	}
	w.heard.awaitEvent(t, "pgbridge.event.orders", orders.commits[len(orders.commits)-1].payload)
	if n := len(w.heard.events("pgbridge.event.orders")); n != len(orders.commits) {
		t.Errorf("%d of %d events were published", n, len(orders.commits))
	}
}

// counted adds up what the gaps of a channel in the stream count.
func (w *world) counted(t *testing.T, channel string) (dropped int64) {
	t.Helper()
	for _, m := range w.messages(t) {
		var g api.Gap
		if m.Subject == w.prefix+".gap."+channel && json.Unmarshal(m.Data, &g) == nil && g.Reason == api.ReasonNATSUnavailable {
			if g.Dropped == nil {
				t.Fatalf("gap %s counts nothing", m.Data)
			}
			dropped += *g.Dropped
		}
	}
	return dropped
}

// A stream that keeps one message for each subject and refuses the next holds up
// nobody but the channel whose subject it is.
func TestStreamSubjectFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.createStream(t, jetstream.StreamConfig{
		Subjects:          []string{"pgbridge.event.*", "pgbridge.gap.*", "log.*"},
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
	})
	r := launch(t, w.config(t, map[string]bridge.Channel{
		"once": {Delivery: bridge.DeliveryJetStream},
		"log":  {Delivery: bridge.DeliveryJetStream, Subject: "log.{payload.id}"},
	})).ready(t)
	once := newWriter(t, w.pg, "once")
	for i := range 3 {
		once.write(t, 1, 1, 1)
		const notify = `SELECT pg_notify('log', '{"id": ' || i || '}') FROM generate_series($1, $1 + 99) i`
		if _, err := once.conn.Exec(t.Context(), notify, 100*i); err != nil {
			t.Fatal(err)
		}
	}
	r.hasProblem(t, "pgbridge.event.once")
	testenv.Wait(t, patience, "every event of the other channel to be stored", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return w.stream(ctx, t).CachedInfo().State.Msgs == 2+1+300
	})
	if got := w.heard.awaitGap(t, "once", api.ReasonNATSUnavailable); got.Dropped == nil || *got.Dropped < 1 {
		t.Errorf("gap %+v, want one that counts the event", got)
	}
}

func TestSubscribeRefused(t *testing.T) {
	t.Parallel()
	w := guarded(t, server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{"pgbridge.notify.>"}}})
	r := launch(t, w.config(t, map[string]bridge.Channel{"orders": {Notify: true}}))
	r.hasProblem(t, "pgbridge.notify.>")
	w.heard.awaitGap(t, "orders", api.ReasonStarted)
	orders := newWriter(t, w.pg, "orders")
	orders.write(t, 10, 10, 20)
	w.heard.awaitEvent(t, "pgbridge.event.orders", orders.commits[9].payload)
	if n := r.warnings(); n > 5 {
		t.Errorf("%d warnings; want a few: %s", n, fmt.Sprint(r.logs.All()))
	}
}
