package publish

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/stream"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestLeaseThatEndsWhileTheEndIsRead holds that a replica does not publish behind what
// its successor stored, because it was given that as the stream's end.
func TestLeaseThatEndsWhileTheEndIsRead(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t).Connect(t)
	l := lease.New()
	if _, err := nc.Subscribe("late.>", func(m *nats.Msg) {
		l.End() // another replica may publish from now on
		answer, err := nc.Request("$JS.API."+m.Subject[len("late."):], m.Data, 10*time.Second)
		if err == nil {
			_ = m.Respond(answer.Data)
		}
	}); err != nil {
		t.Fatal(err)
	}
	late, err := jetstream.NewWithAPIPrefix(nc, "late")
	if err != nil {
		t.Fatal(err)
	}
	s := NewEventStream(late, "p", stream.Need{Config: jetstream.StreamConfig{Name: "P_EVENTS"}, Create: true})
	route, err := event.NewRoute("a", "p", event.RouteOptions{Stored: true})
	if err != nil {
		t.Fatal(err)
	}
	s.SetRoutes(map[string]*event.Route{"a": route})
	p := &StreamPublisher{NC: nc, Stream: s, Lease: l, Queue: queue.New(1 << 20), Log: zap.NewNop(), Problem: problem.New(part.Stream, error.Error)}
	l.Renew(time.Now())
	l.Confirm(true)
	p.become(leaseBegan)
	p.readEnd(t.Context())
	if p.Problem.Current() != "" || p.state != following {
		t.Errorf("the publisher is %s, %q, want %s", p.state, p.Problem.Current(), following)
	}
}
