package bridge_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pgbridge/pgbridge/bridge"
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
			w.heard.awaitGap(t, "orders", bridge.ReasonStarted)
			w.heard.awaitGap(t, "audit", bridge.ReasonStarted)
			secret, orders, audit := newWriter(t, w.pg, "secret"), newWriter(t, w.pg, "orders"), newWriter(t, w.pg, "audit")
			for range 20 {
				secret.write(t, 10, 10, 20)
				orders.write(t, 10, 10, 20)
				audit.write(t, 10, 10, 20)
			}
			r.logged(t, "pgbridge.event.secret", "publish")
			r.troubled(t, "pgbridge.event.secret")
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
		if g.Reason != bridge.ReasonNATSUnavailable || g.Dropped == nil {
			t.Fatalf("gap %+v; want nats_unavailable and a count", g)
		}
		counted += *g.Dropped
	}
	if counted != 60 || len(gaps) > 8 {
		t.Errorf("%d gaps %s count %d events, want 60 in a few gaps", len(gaps), show(gaps), counted)
	}
}

// A stream keeps the order of all its channels, so one refused subject holds
// all of them up until somebody permits it.
func TestStreamPublishRefused(t *testing.T) {
	t.Parallel()
	var options *server.Options
	deny := denyPublish("pgbridge.event.audit")
	n := testenv.NATS(t, func(o *server.Options) {
		options = o
		o.Users = []*server.User{
			{Username: "bridge", Password: "bridge", Permissions: &deny},
			{Username: "audience", Password: "audience"},
		}
	})
	w := &world{pg: testenv.Postgres(t).NewDatabase(t), nats: withUser(n.URL(), "bridge"), prefix: "pgbridge"}
	r := launch(t, w.config(t, map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}})).ready(t)
	audit := newWriter(t, w.pg, "audit")
	audit.write(t, 500, 10, 50)
	r.troubled(t, `"pgbridge.event.audit"`)
	r.logged(t, "permissions violation", "pgbridge.event.audit")
	n.Stop(t)
	options.Users[0].Permissions = nil
	n.Start(t)
	r.ready(t)
	w.settled(t, r, audit)
	if n := r.warnings(); n > 5 {
		t.Errorf("%d warnings; want a few", n)
	}
	if msgs := w.messages(t); len(msgs) != 502 {
		t.Errorf("the stream holds %d messages, want 501 events and one gap", len(msgs))
	}
}

func TestSubscribeRefused(t *testing.T) {
	t.Parallel()
	w := guarded(t, server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{"pgbridge.notify.>"}}})
	r := launch(t, w.config(t, map[string]bridge.Channel{"orders": {Notify: true}}))
	r.troubled(t, "pgbridge.notify.>")
	w.heard.awaitGap(t, "orders", bridge.ReasonStarted)
	orders := newWriter(t, w.pg, "orders")
	orders.write(t, 10, 10, 20)
	w.heard.awaitEvent(t, "pgbridge.event.orders", orders.commits[9].payload)
	if n := r.warnings(); n > 5 {
		t.Errorf("%d warnings; want a few: %s", n, fmt.Sprint(r.logs.All()))
	}
}
