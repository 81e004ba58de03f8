package main

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

// printer writes one message a line.
type printer struct {
	out  io.Writer
	json bool
}

func newPrinter(out io.Writer, asJSON bool) *printer { return &printer{out, asJSON} }

func (p *printer) print(m *nats.Msg) error {
	if p.json {
		return p.printJSON(m)
	}
	_, err := fmt.Fprintln(p.out, plainLine(m))
	return err
}

// jsonLine is a message as --json prints it.
type jsonLine struct {
	Subject string              `json:"subject"`
	Headers map[string][]string `json:"headers,omitempty"`
	Payload any                 `json:"payload"` // embedded where it is JSON, else a string
}

func (p *printer) printJSON(m *nats.Msg) error {
	line := jsonLine{Subject: m.Subject, Headers: m.Header, Payload: string(m.Data)}
	if json.Valid(m.Data) {
		line.Payload = json.RawMessage(m.Data)
	}
	e := json.NewEncoder(p.out)
	e.SetEscapeHTML(false)
	return e.Encode(line)
}

// plainLine holds the subject, the headers that say something new, and the
// payload with nothing in it that a terminal would obey.
func plainLine(m *nats.Msg) string {
	var b strings.Builder
	b.WriteString(printable(m.Subject))
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		if strings.HasPrefix(name, "Pgbridge-") || name == nats.MsgIdHdr {
			fmt.Fprintf(&b, "  %s=%s", name, printable(strings.Join(m.Header[name], ",")))
		}
	}
	b.WriteString("  ")
	b.WriteString(printable(string(m.Data)))
	return b.String()
}

// printable returns s with everything that is no visible character written
// as Go would in a string literal.
func printable(s string) string {
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
