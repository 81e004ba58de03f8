package subject

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCoversAndOverlaps(t *testing.T) {
	t.Parallel()
	tests := []struct {
		wide, narrow     string
		covers, overlaps bool
	}{
		{"a.b", "a.b", true, true}, {"a.*", "a.b", true, true}, {"a.>", "a.b.c", true, true}, {">", "a", true, true},
		{"a.*", "a.*", true, true}, {"a.>", "a.>", true, true}, {"a.b", "a.*", false, true}, {"a.*", "a.>", false, true},
		{"a.>", "a", false, false}, {"a.b", "a", false, false}, {"a", "a.b", false, false}, {"a.b", "b.b", false, false},
		{"a.*.c", "a.b.*", false, true}, {"*.b", "a.>", false, true}, {"a.b.c", "a.*", false, false},
	}
	for _, tt := range tests {
		if got := Covers(tt.wide, tt.narrow); got != tt.covers {
			t.Errorf("Covers(%q, %q) = %t, want %t", tt.wide, tt.narrow, got, tt.covers)
		}
		if got := Overlaps(tt.wide, tt.narrow); got != tt.overlaps {
			t.Errorf("Overlaps(%q, %q) = %t, want %t", tt.wide, tt.narrow, got, tt.overlaps)
		}
	}
}

// TestPatternsAgreeWithSubjects compares both with what they say about single
// subjects.
func TestPatternsAgreeWithSubjects(t *testing.T) {
	t.Parallel()
	pattern := rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*"}), 1, 3).Draw(t, "tokens")
		if rapid.Bool().Draw(t, "open") {
			tokens = append(tokens, ">")
		}
		return strings.Join(tokens, ".")
	})
	rapid.Check(t, func(t *rapid.T) {
		p, q := pattern.Draw(t, "p"), pattern.Draw(t, "q")
		subject := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 5).Draw(t, "subject"), ".")
		inP, inQ := Covers(p, subject), Covers(q, subject)
		if Covers(p, q) && inQ && !inP {
			t.Fatalf("Covers(%q, %q), but %q matches the second alone", p, q, subject)
		}
		if inP && inQ && !(Overlaps(p, q) && Overlaps(q, p)) {
			t.Fatalf("Overlaps(%q, %q) = false, but %q matches both", p, q, subject)
		}
	})
}
