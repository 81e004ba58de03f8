package check

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

// report prints one line for each check as it is made.
type report struct {
	out     io.Writer
	notes   io.Writer // for progress
	standby string    // its URL; empty: none is looked at
	count   int
	failed  int
}

func (r *report) heading(text string) { fmt.Fprintf(r.out, "%s\n", text) }

func (r *report) line(verdict, what, detail string) {
	r.count++
	fmt.Fprintln(r.out, shown(strings.TrimRight(fmt.Sprintf("  %-5s %-24s %s", verdict, what, detail), " ")))
}

// shown is a line in which nothing is obeyed by a terminal: servers have said part of it.
func shown(line string) string { return console.Printable(line) }

func (r *report) ok(what, format string, args ...any) {
	r.line("ok", what, fmt.Sprintf(format, args...))
}

// warn is for what works, but perhaps not as meant.
func (r *report) warn(what, format string, args ...any) {
	r.line("warn", what, fmt.Sprintf(format, args...))
}

func (r *report) fail(what, format string, args ...any) {
	r.failed++
	r.line("FAIL", what, fmt.Sprintf(format, args...))
}

// verdict is ok without an error.
func (r *report) verdict(what, good string, err error) bool {
	if err != nil {
		r.fail(what, "%s", firstLine(err))
		return false
	}
	r.ok(what, "%s", good)
	return true
}

func firstLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), " ")
}

// limit bounds each server's checks together.
const limit = 30 * time.Second
