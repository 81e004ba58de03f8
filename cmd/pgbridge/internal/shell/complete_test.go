package shell_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/shell"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// Whoever answers in pgbridge's stead names scripts and parameters as they like; what a
// key puts into the line is written to the terminal as it is.
func TestForgedNamesAreNotCompleted(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	forger := bus.Connect(t)
	for subject, answer := range map[string]string{
		"pgbridge.describe":      `{"scripts": [{"name": "esc\u001b]52;c;cm0=\u0007"}, {"name": "turned\u202e"}, {"name": "pay to=mallory"}, {"name": "good"}]}`,
		"pgbridge.describe.good": `{"name": "good", "parameters": [{"name": "a\u001b[2J", "types": ["text"]}, {"name": "b", "types": ["text"]}]}`,
	} {
		if _, err := forger.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(answer)) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := forger.Flush(); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(bus.Connect(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]string{
		"es": "es", "tur": "tur", "pay": "pay", "goo": "good ", "good a": "good a", "good b": "good b=",
	} {
		var shown []string
		complete := shell.Complete(t.Context(), c, func(words []string) { shown = words })
		if got, _, _ := complete(typed, len(typed), '\t'); got != want || shown != nil {
			t.Errorf("%q becomes %q (%s), want %q", typed, got, strings.Join(shown, " "), want)
		}
	}
}
