package wal

import (
	"slices"
	"strings"
	"testing"
)

func TestOwnerIsTheTimelineThatWroteIt(t *testing.T) {
	t.Parallel()
	history, err := parseHistory([]byte("1\t0/5000000\tno recovery target specified\n\n# a comment\n3\t0/7000000\tbefore 2026-01-01\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := System{Timeline: 4, history: history}
	for position, want := range map[LSN]uint32{1: 1, 0x4ffffff: 1, 0x5000000: 3, 0x6ffffff: 3, 0x7000000: 4, 1 << 40: 4} {
		if got := s.Owner(position); got != want {
			t.Errorf("Owner(%s) = %d, want %d", position, got, want)
		}
	}
	for timeline, want := range map[uint32]bool{1: true, 2: false, 3: true, 4: true, 5: false} {
		if s.Knows(timeline) != want {
			t.Errorf("Knows(%d) = %t, want %t", timeline, !want, want)
		}
	}
}

func TestParseHistoryRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"x 0/1", "1 0", "1 g/1", "99999999999 0/1"} {
		if _, err := parseHistory([]byte(bad)); err == nil {
			t.Errorf("parseHistory(%q) succeeds", bad)
		}
	}
}

func FuzzParseLSN(f *testing.F) {
	f.Add("16/B374D848")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLSN(s)
		if err != nil {
			return
		}
		if again, err := ParseLSN(l.String()); err != nil || again != l {
			t.Errorf("ParseLSN(%s) = %s, %v", l, again, err)
		}
	})
}

// A reason may be of any length, and what comes behind it counts too.
func TestParseHistoryOfLongLines(t *testing.T) {
	t.Parallel()
	history, err := parseHistory([]byte("1\t0/5\t" + strings.Repeat("x", 100_000) + "\n2\t0/9\tno reason"))
	if want := []branch{{1, 5}, {2, 9}}; err != nil || !slices.Equal(history, want) {
		t.Errorf("parseHistory = %v, %v, want %v", history, err, want)
	}
}
