package console

import (
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestGapsAreColoredAtATerminal(t *testing.T) {
	t.Parallel()
	m := &nats.Msg{Subject: "pgbridge.gap.orders", Data: []byte("\x1b[31m")}
	for _, c := range []struct {
		messages Messages
		gap      bool
		want     string
	}{
		{Messages{Colors: true}, true, "\x1b[30;43mpgbridge.gap.orders  \\x1b[31m\x1b[0m\n"},
		{Messages{Colors: true}, false, "pgbridge.gap.orders  \\x1b[31m\n"},
		{Messages{}, true, "pgbridge.gap.orders  \\x1b[31m\n"},
		{Messages{Colors: true, JSON: true}, true, `{"subject":"pgbridge.gap.orders","payload":"\u001b[31m"}` + "\n"},
	} {
		var out strings.Builder
		c.messages.Out = &out
		if err := c.messages.Print(m, c.gap); err != nil || out.String() != c.want {
			t.Errorf("printed %q, %v, want %q", &out, err, c.want)
		}
	}
}

func TestColored(t *testing.T) {
	t.Parallel()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	if !Colored(terminal, env("TERM", "xterm")) {
		t.Error("no colours at a terminal")
	}
	if Colored(terminal, env("NO_COLOR", "1")) || Colored(terminal, env("TERM", "dumb")) || Colored(&strings.Builder{}, env()) {
		t.Error("colours where nobody wants them")
	}
}
