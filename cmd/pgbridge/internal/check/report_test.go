package check

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// Servers have said part of what is printed, and a terminal would obey it.
func TestReportIsObeyedByNoTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := &report{out: &out}
	said := "a\x1b]0;title\a\rb\u009b2J\u202ec"
	r.verdict("what", "", errors.New(said))
	r.verdict(said, said, nil)
	r.warn("what", "%s", said)
	r.detail(said, said)
	if strings.ContainsAny(out.String(), "\x1b\a\r\u009b\u202e") || strings.Count(out.String(), "\n") != 4 {
		t.Errorf("printed %q", out.String())
	}
}
