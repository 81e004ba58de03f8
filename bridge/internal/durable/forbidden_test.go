package durable

import (
	"errors"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// What is on a subject that the configuration names waits until NATS allows it, however
// long it refuses.
func TestConfiguredSubjectsAreNotGivenUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		subject string
		wait    bool
	}{{"", true}, {"fixed.{channel}", true}, {"chosen.{payload.to}", false}} {
		route, err := event.NewRoute("orders", "pgbridge", event.RouteOptions{Subject: tt.subject, Durable: true})
		if err != nil {
			t.Fatal(err)
		}
		p := &publisher{}
		it := flying{Item: event.Item{Kind: event.KindEvent, Route: route, Payload: `{"to": "evil"}`, Origin: &event.Origin{}, Counters: event.NewCounters("orders")}}
		p.forbid(&it, errors.New("refused"))
		if refused := len(p.forbidden.routes) > 0; refused == tt.wait {
			t.Errorf("%q: counted %v, want %v", tt.subject, refused, !tt.wait)
		}
		if it.Kind != event.KindEvent {
			t.Errorf("%q: given up at once", tt.subject)
		}
		for _, r := range p.forbidden.routes {
			if r.since.After(time.Now()) || r.enough {
				t.Errorf("%q: %+v after one refusal", tt.subject, r)
			}
		}
	}
}
