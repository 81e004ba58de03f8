package console

import (
	"bytes"
	"fmt"
	"io"
)

// Shown is what results are written to that are not made for people: w itself, or,
// where people read them all the same, a writer that shows the characters which their
// terminal would obey as \x1b or, within JSON, in a form that means the same.
func Shown(w io.Writer, people bool) io.Writer {
	if !people {
		return w
	}
	return &harmless{out: w}
}

// harmless shows control characters but line breaks and tabs. Those of ISO 6429's
// second set take two bytes in UTF-8, which can come in two writes.
type harmless struct {
	out  io.Writer
	held bool // the first byte of what may be one
}

const (
	// Control characters from U+0080 to U+009F are this byte and another one.
	leadingControl = 0xc2
	del            = 0x7f
)

// Write says that it has written everything, or why it has not.
func (h *harmless) Write(b []byte) (int, error) {
	var shown bytes.Buffer
	for _, c := range b {
		if h.held {
			h.held = false
			if c >= 0x80 && c < 0xa0 {
				fmt.Fprintf(&shown, `\u00%02x`, c)
				continue
			}
			shown.WriteByte(leadingControl)
		}
		switch {
		case c == leadingControl:
			h.held = true
		case c == '\n' || c == '\t' || c == '\r' || c >= ' ' && c != del:
			shown.WriteByte(c)
		case c == del:
			shown.WriteString(`\u007f`)
		default:
			fmt.Fprintf(&shown, `\x%02x`, c)
		}
	}
	if _, err := h.out.Write(shown.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}
