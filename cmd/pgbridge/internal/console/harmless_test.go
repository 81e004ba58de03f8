package console

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
)

// hostile has what terminals obey: an escape sequence, the same begun by one character
// of ISO 6429's second set, an erase character, the way back to the beginning of the line,
// and characters that turn the order of others.
const hostile = "\x1b]52;c;cm0=\a\u009b2J\x7f\rx\u202ey\u2066z\U000e0041"

// obeyed returns the first character of a text that a terminal would obey.
func obeyed(text string) string {
	for _, r := range text {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || unicode.Is(unicode.Cf, r) {
			return string(r)
		}
	}
	return ""
}

func TestShown(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\tb\r\nGröße 漢字 £\n":    "a\tb\r\nGröße 漢字 £\n",
		hostile:                   `\x1b]52;c;cm0=\x07\u009b2J\u007f\x0dx\u202ey\u2066z\udb40\udc41`,
		"\xc2":                    "",
		"\xc2x":                   `\xc2x`,
		"\xc2\xc2\x9b":            `\xc2\u009b`,
		"a\x9b2J\xf0\x9f\x98\x80": `a\x9b2J` + "\U0001f600",
		"a\r\rb\r\n":              `a\x0d\x0db` + "\r\n",
	} {
		for _, size := range []int{1, 2, 1000} {
			var out strings.Builder
			w := Shown(&out, true)
			for rest := []byte(in); len(rest) > 0; {
				n := min(size, len(rest))
				if got, err := w.Write(rest[:n]); got != n || err != nil {
					t.Fatalf("Write() = %d, %v", got, err)
				}
				rest = rest[n:]
			}
			if out.String() != want {
				t.Errorf("%q in pieces of %d is shown as %q, want %q", in, size, &out, want)
			}
		}
	}
	var out strings.Builder
	if w := Shown(&out, false); w != io.Writer(&out) {
		t.Error("what nobody looks at is changed")
	}
}

// JSON at a terminal means what it does elsewhere.
func TestShownJSON(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := JSON(Shown(&out, true), hostile); err != nil {
		t.Fatal(err)
	}
	var back string
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil || back != hostile || obeyed(out.String()) != "" {
		t.Errorf("%q is %q, %v", &out, back, err)
	}
}

// Whoever answers in pgbridge's stead, and whoever names a header, has nothing that
// the terminal would obey.
func TestNothingIsObeyed(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := client.Description{
		Info:       client.ScriptInfo{Name: hostile, Kind: client.Kind(hostile), Description: hostile},
		Parameters: []client.Parameter{{Name: hostile, Types: []string{hostile}}},
		Columns:    []client.Column{{Name: hostile, Type: hostile}},
		Settings:   client.Settings{Isolation: hostile, Role: hostile, Buckets: []string{hostile}},
	}
	m := &nats.Msg{Subject: hostile, Header: nats.Header{"Pgbridge-" + hostile: {hostile}}, Data: []byte(hostile)}
	for name, show := range map[string]func() error{
		"a script": func() error { return Script(&out, &d) },
		"a list":   func() error { return Columns(&out, [][]string{{Kind(d.Info), hostile}}) },
		"an event": func() error { return Messages{Out: &out}.Print(m, false) },
		"a table": func() error {
			return Table(&out, client.Result{Columns: d.Columns, Rows: []client.Row{{[]byte(`"\u001b\u009b\u202e"`)}}}, 0)
		},
		"an error": func() error {
			(&Replies{Notes: &out}).PrintError(&client.Error{Code: client.Code(hostile), Message: hostile, Detail: hostile, SQLState: hostile})
			return nil
		},
		"a notice": func() error {
			(&Replies{Notes: &out}).PrintNotices([]client.Notice{{Severity: hostile, Message: hostile}})
			return nil
		},
		"a transfer": func() error { return Table(&out, client.Result{Command: hostile}, 0) },
	} {
		out.Reset()
		if err := show(); err != nil || out.Len() == 0 || obeyed(out.String()) != "" {
			t.Errorf("%s is %q, %v", name, &out, err)
		}
	}
}
