// Package timeline notes what happened in a run and when, so that a discrepancy can
// be shown with what led to it.
package timeline

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Entry is one thing that happened.
type Entry struct {
	At   time.Time
	Text string
}

// Timeline is all of them, in the order of their times. It is safe for concurrent
// use.
type Timeline struct {
	began time.Time
	out   io.Writer

	mu      sync.Mutex // guards entries
	entries []Entry
}

// New begins a timeline. What is noted is also written to out, unless that is nil.
func New(out io.Writer) *Timeline { return &Timeline{began: time.Now(), out: out} }

// Note adds what happens now.
func (t *Timeline) Note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := Entry{time.Now(), fmt.Sprintf(format, args...)}
	t.entries = append(t.entries, e)
	if t.out != nil {
		fmt.Fprintln(t.out, t.line(e))
	}
}

// Around is what happened between two moments, a line each.
func (t *Timeline) Around(from, to time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines strings.Builder
	for _, e := range t.entries {
		if !e.At.Before(from) && !e.At.After(to) {
			lines.WriteString("    " + t.line(e) + "\n")
		}
	}
	return lines.String()
}

func (t *Timeline) line(e Entry) string {
	return fmt.Sprintf("%s %8.3fs %s", e.At.UTC().Format("15:04:05.000"), e.At.Sub(t.began).Seconds(), e.Text)
}
