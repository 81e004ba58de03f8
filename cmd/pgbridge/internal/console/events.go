package console

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
)

// Messages writes one message a line.
type Messages struct {
	Out    io.Writer
	JSON   bool // as JSON objects
	Colors bool // gaps are not to be overlooked; see [Colored]
}

// gapColors are black on yellow, for what may be missing, and what ends that.
// https://www.ecma-international.org/publications-and-standards/standards/ecma-48/
const gapColors, plainColors = "\x1b[30;43m", "\x1b[0m"

// Print writes a message, which is a gap or not.
func (p Messages) Print(m *nats.Msg, gap bool) error {
	if p.JSON {
		return p.printJSON(m)
	}
	line := plainLine(m)
	if gap && p.Colors {
		line = gapColors + line + plainColors
	}
	_, err := fmt.Fprintln(p.Out, line)
	return err
}

// jsonLine is a message as --json prints it.
type jsonLine struct {
	Subject string              `json:"subject"`
	Headers map[string][]string `json:"headers,omitempty"`
	Payload any                 `json:"payload"` // embedded where it is JSON, else a string
}

func (p Messages) printJSON(m *nats.Msg) error {
	line := jsonLine{Subject: m.Subject, Headers: m.Header, Payload: string(m.Data)}
	if json.Valid(m.Data) {
		line.Payload = json.RawMessage(m.Data)
	}
	e := json.NewEncoder(p.Out)
	e.SetEscapeHTML(false)
	return e.Encode(line)
}

// plainLine holds the subject, the headers that say something new, and the
// payload with nothing in it that a terminal would obey.
func plainLine(m *nats.Msg) string {
	var b strings.Builder
	b.WriteString(Printable(m.Subject))
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		repeated := name == nats.MsgIdHdr && m.Header.Get(name) == m.Header.Get("Pgbridge-Id")
		if strings.HasPrefix(name, "Pgbridge-") || name == nats.MsgIdHdr && !repeated {
			fmt.Fprintf(&b, "  %s=%s", Printable(name), Printable(strings.Join(m.Header[name], ",")))
		}
	}
	b.WriteString("  ")
	b.WriteString(Printable(string(m.Data)))
	return b.String()
}

// Printable returns s with everything that is no visible character written
// as Go would in a string literal.
func Printable(s string) string {
	shown := func(r rune) bool { return r == ' ' || unicode.IsGraphic(r) }
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !shown(r) }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 || !shown(r) {
			quoted := strconv.Quote(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}
