package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// TestLogIsBounded writes far more of one kind than of another.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := New(&out, "json", "debug")
		for i := range 100_000 {
			log.With(zap.Int("n", i)).Warn("request failed")
		}
		log.Warn("another kind")
		if n := strings.Count(out.String(), "\n"); n != mostLines+1 {
			t.Errorf("%d lines within a second, want %d", n, mostLines+1)
		}
		time.Sleep(logWindow)
		log.Info("stopped")
		if want := `"kind":"request failed","lines":99800}`; strings.Count(out.String(), want) != 1 {
			t.Errorf("no %s in the last lines\n%s", want, out.String()[max(0, out.Len()-500):])
		}
		out.Reset()
		log.Warn("request failed")
		for range 2 * mostLines {
			log.Debug("each item")
		}
		if n := strings.Count(out.String(), "\n"); n != 2*mostLines+1 {
			t.Errorf("%d lines, want each at the level debug and one of a new second", n)
		}
	})
}

// Whoever names something that is logged has nothing that the reader's terminal would
// obey, nor what changes the order of a line.
func TestLinesAreObeyedByNoTerminal(t *testing.T) {
	t.Parallel()
	const hostile = "\x1b]0;x\a\u009b2J\x7f\u202ey\rz\u2066"
	for _, form := range []string{"json", "console"} {
		var out bytes.Buffer
		New(&out, form, "info").Info("message "+hostile, zap.String("name", hostile), zap.Error(errors.New(hostile)))
		if strings.ContainsAny(out.String(), "\x1b\a\u009b\x7f\u202e\u2066\r") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: %q", form, &out)
		}
		if form == "json" {
			var line struct{ Name string }
			if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Name != hostile {
				t.Errorf("it means %q, %v", line.Name, err)
			}
		}
	}
}
