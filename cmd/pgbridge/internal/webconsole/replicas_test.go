package webconsole

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api/status"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Anybody may answer in a replica's name, as long and as often as they like: of each
// answer a bounded part is shown, and of all of them a bounded number.
func TestForgedReplicasAreBounded(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	asks, forger := bus.Connect(t), bus.Connect(t)
	long := strings.Repeat("x", 2*maxWord)
	said := func(r status.Replica) []byte {
		body, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	for _, tt := range []struct {
		about string
		send  func(m *nats.Msg) error
		check func([]Replica) bool
	}{
		{"long words, and many of them", func(m *nats.Msg) error {
			return m.Respond(said(status.Replica{Replica: long, Version: long, State: long, Problems: make([]string, 100)}))
		}, func(all []Replica) bool {
			if len(all) != 1 {
				return false
			}
			r := all[0]
			return len(r.Replica) == maxWord && len(r.Version) == maxWord && len(r.State) == maxWord && len(r.Problems) == maxProblems
		}},
		{"an answer that is too long", func(m *nats.Msg) error {
			if err := m.Respond(said(status.Replica{Replica: "large", State: strings.Repeat("x", maxAnswer)})); err != nil {
				return err
			}
			return m.Respond(said(status.Replica{Replica: "small", State: strings.Repeat("x", maxAnswer/2)}))
		}, func(all []Replica) bool { return len(all) == 1 && all[0].Replica == "small" }},
		{"too many answers", func(m *nats.Msg) error {
			for i := range 2 * maxReplicas {
				if err := m.Respond(said(status.Replica{Replica: fmt.Sprint("r", i)})); err != nil {
					return err
				}
			}
			return nil
		}, func(all []Replica) bool { return len(all) == maxReplicas }},
		{"a moment that JSON does not have in UTC", func(m *nats.Msg) error {
			if err := m.Respond([]byte(`{"replica": "a", "started_at": "9999-12-31T23:59:59-23:59"}`)); err != nil {
				return err
			}
			return m.Respond([]byte(`{"replica": "b", "started_at": "0000-01-01T00:00:00+23:59"}`))
		}, func(all []Replica) bool {
			_, err := json.Marshal(all)
			return len(all) == 2 && err == nil
		}},
		{"no answer of a replica's", func(m *nats.Msg) error {
			return m.Respond([]byte(`{"replica": 7}`))
		}, func(all []Replica) bool { return len(all) == 0 }},
	} {
		sub, err := forger.Subscribe("pgbridge.status", func(m *nats.Msg) {
			if err := tt.send(m); err != nil {
				t.Errorf("%s: %v", tt.about, err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := forger.Flush(); err != nil {
			t.Fatal(err)
		}
		var all []Replica
		testenv.Wait(t, 30*time.Second, tt.about, func() bool {
			all = replicas(t.Context(), asks, "pgbridge")
			return tt.check(all)
		})
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		if err := forger.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}
