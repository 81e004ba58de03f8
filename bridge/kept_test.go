package bridge_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A bridge with a durable channel is not ready before a slot keeps its events: what
// commits as soon as it says so arrives.
func TestNotReadyBeforeASlotKeepsTheEvents(t *testing.T) {
	t.Parallel()
	pg, ns := durableWorld(t)
	open, err := pgx.Connect(t.Context(), pg)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close(t.Context())
	// A new slot waits for this one.
	if _, err := open.Exec(t.Context(), "BEGIN; CREATE TABLE undecided ()"); err != nil {
		t.Fatal(err)
	}
	b := launch(t, bridge.Config{ConnString: pg, Events: connect(t, ns), Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
		Channels: map[string]bridge.Channel{"billing": {Durable: true}}})
	testenv.Wait(t, patience, "what the slot waits for", func() bool {
		problems := b.Problems()
		if len(problems) == 0 {
			t.Fatal("ready, though nothing keeps the events of a durable channel")
		}
		return strings.Contains(strings.Join(problems, "\n"), "waits for the transaction")
	})
	if _, err := open.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	b.ready(t)
	testenv.Exec(t, pg, "SELECT pgbridge.notify('billing', 'first')")
	messages := durableMessages(t, ns)
	nextDurable(t, messages) // the gap
	if m := nextDurable(t, messages); string(m.Data()) != "first" {
		t.Errorf("after the gap came %s, want what was sent when the bridge was ready", m.Data())
	}
}

// Nor is it after a reload that adds channels, durable ones and others, before it listens
// to them and a slot keeps their events.
func TestNotReadyBeforeNewChannelsAreHeard(t *testing.T) {
	t.Parallel()
	pg, ns := durableWorld(t)
	link := testenv.NewProxy(t, testenv.Postgres(t).Addr())
	b := launch(t, bridge.Config{ConnString: link.Reroute(t, pg), Events: connect(t, ns), Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
		Channels: map[string]bridge.Channel{"orders": {}}}).ready(t)
	plain := subscribed(t, ns, "pgbridge.event.late")
	for _, added := range []string{"first", "second"} { // the slot is there when the second comes
		link.Freeze()
		channels := map[string]bridge.Channel{"orders": {}, "first": {Durable: true}, added: {Durable: true}}
		if added == "first" {
			channels["late"] = bridge.Channel{}
		}
		if err := b.Reload(channels); err != nil {
			t.Fatal(err)
		}
		want := []string{`durable channels: nothing keeps the events yet of "` + added + `"`}
		if added == "first" {
			want = append(want, "listener: LISTEN is still to be done for 1 channels")
		}
		if problems := b.Problems(); slices.ContainsFunc(want, func(p string) bool { return !slices.Contains(problems, p) }) {
			t.Errorf("right after a reload the problems are %q, want %q among them", problems, want)
		}
		link.Thaw()
		b.ready(t)
		testenv.Exec(t, pg, "SELECT pgbridge.notify($1::text, 'to ' || $1::text), pg_notify('late', 'heard')", added)
		messages := durableMessages(t, ns)
		for m := nextDurable(t, messages); string(m.Data()) != "to "+added; m = nextDurable(t, messages) {
			if !strings.HasPrefix(m.Subject(), "pgbridge.gap.") && string(m.Data()) != "to first" {
				t.Errorf("in the stream is %s", m.Data())
			}
		}
		if added == "second" {
			break // the channel is not there any more
		}
		if m, err := plain.NextMsg(patience); err != nil || string(m.Data) != "heard" {
			t.Errorf("the plain channel: %v", err)
		}
	}
}
