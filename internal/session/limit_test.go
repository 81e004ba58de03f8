package session

import (
	"testing"
	"time"
)

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"5000": 5 * time.Second, "0": 0, "30s": 30 * time.Second, "1.5min": 90 * time.Second, "250 ms": 250 * time.Millisecond,
		"2000us": 2 * time.Millisecond, "1h": time.Hour, "1d": 24 * time.Hour, "": 0, "soon": 0, "-1": 0, "5 parsecs": 0,
	} {
		if got := parseLimit(text); got != want {
			t.Errorf("parseLimit(%q) = %s, want %s", text, got, want)
		}
	}
}
