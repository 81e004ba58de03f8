package logging

import (
	"bytes"
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
