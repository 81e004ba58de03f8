package operate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Anybody may answer, on and on, and what is no replica's answer at all: what replicas
// have said is told all the same.
func TestStatusOfForgers(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	replica, forger := bus.Connect(t), bus.Connect(t)
	if _, err := replica.Subscribe("pgbridge.status", func(m *nats.Msg) { _ = m.Respond([]byte(`{"replica": "true"}`)) }); err != nil {
		t.Fatal(err)
	}
	if _, err := forger.Subscribe("pgbridge.status", func(m *nats.Msg) {
		ticks := time.NewTicker(50 * time.Millisecond)
		defer ticks.Stop()
		for ; t.Context().Err() == nil; <-ticks.C {
			_ = m.Respond([]byte(`no status`))
		}
	}); err != nil {
		t.Fatal(err)
	}
	flush(t, replica, forger)
	o, err := New(bus.Connect(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	all, err := o.Status(ctx)
	if err != nil || len(all) != 1 || all[0].Replica != "true" {
		t.Errorf("Status() = %+v, %v", all, err)
	}
}

// A list that never ends takes up no more memory than one that does.
func TestListsThatNeverEnd(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	forger := bus.Connect(t)
	padding := strings.Repeat(" ", 900<<10)
	for _, subject := range []string{"pgbridge.channels", "pgbridge.describe"} {
		answers := 0
		if _, err := forger.Subscribe(subject, func(m *nats.Msg) {
			answers++
			_ = m.Respond([]byte(fmt.Sprintf(`{"next": "%09d"}%s`, answers, padding)))
		}); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, forger)
	nc := bus.Connect(t)
	o, err := New(nc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(nc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := o.Channels(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Channels() = %v", err)
	}
	if _, err := c.Scripts(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Scripts() = %v", err)
	}
}

func flush(t *testing.T, all ...*nats.Conn) {
	t.Helper()
	for _, nc := range all {
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}
