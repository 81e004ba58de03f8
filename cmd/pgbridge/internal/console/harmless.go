package console

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Shown is what results are written to that are not made for people: w itself, or,
// where people read them all the same, a writer that shows the characters which their
// terminal would obey, or which change the order of others, as \x1b or, within JSON, in
// a form that means the same.
func Shown(w io.Writer, people bool) io.Writer {
	if !people {
		return w
	}
	return &harmless{out: w}
}

// harmless shows all that is no visible character but line ends and tabs. What is no
// end of a line, or the beginning of a character, can be known only from the next write.
type harmless struct {
	out  io.Writer
	held []byte // what has no meaning yet
}

// Write says that it has written everything, or why it has not.
func (h *harmless) Write(b []byte) (int, error) {
	var shown bytes.Buffer
	rest := slices.Concat(h.held, b)
	for len(rest) > 0 && utf8.FullRune(rest) && (rest[0] != '\r' || len(rest) > 1) {
		r, size := utf8.DecodeRune(rest)
		end := r == '\r' && rest[1] == '\n' // alone it would have what follows hide what is there
		switch {
		case r == utf8.RuneError && size == 1, r < ' ' && r != '\n' && r != '\t' && !end:
			fmt.Fprintf(&shown, `\x%02x`, rest[0])
		case r < ' ', r == ' ', unicode.IsGraphic(r):
			shown.Write(rest[:size])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&shown, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&shown, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	h.held = bytes.Clone(rest)
	if _, err := h.out.Write(shown.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}
