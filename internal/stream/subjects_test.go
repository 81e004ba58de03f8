package stream

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/internal/subject"
)

func patterns() *rapid.Generator[[]string] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*"}), 1, 4).Draw(t, "tokens")
		if rapid.Bool().Draw(t, "open") {
			tokens = append(tokens, ">")
		}
		return strings.Join(tokens, ".")
	}), 0, 8)
}

func covered(patterns []string, narrow string) bool {
	return slices.ContainsFunc(patterns, func(wide string) bool { return subject.Covers(wide, narrow) })
}

func TestMissingIsWhatNothingCovers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		have, want := patterns().Draw(t, "have"), patterns().Draw(t, "want")
		before := slices.Clone(want)
		missing := Missing(have, want)
		if !slices.Equal(want, before) {
			t.Fatalf("Missing changed its argument to %q", want)
		}
		i := 0
		for _, pattern := range want {
			if covered(have, pattern) {
				continue
			}
			if i == len(missing) || missing[i] != pattern {
				t.Fatalf("Missing() = %q, want %q at %d", missing, pattern, i)
			}
			i++
		}
		if i != len(missing) {
			t.Fatalf("Missing() = %q, the last is covered", missing)
		}
	})
}

func TestWidestHoldsAllAndCoversNothingTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := patterns().Draw(t, "patterns")
		widest := Widest(all)
		for _, pattern := range all {
			if !covered(widest, pattern) {
				t.Fatalf("Widest() = %q does not hold %q", widest, pattern)
			}
		}
		for i, pattern := range widest {
			if !slices.Contains(all, pattern) || covered(slices.Delete(slices.Clone(widest), i, i+1), pattern) {
				t.Fatalf("Widest() = %q, %q is not wanted in it", widest, pattern)
			}
		}
	})
}

// BenchmarkMissing looks for as many channels as a large installation has.
func BenchmarkMissing(b *testing.B) {
	subjects := make([]string, 20_000)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("pgbridge.event.channel%d", i)
	}
	for b.Loop() {
		if n := len(Missing(Widest(subjects), subjects)); n > 0 {
			b.Fatalf("%d are missing", n)
		}
	}
}

func TestBesidesFindsWhatOverlaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		have, want := patterns().Draw(t, "have"), patterns().Draw(t, "want")
		set := cover{}
		for _, pattern := range have {
			set.add(pattern)
		}
		overlaps := func(pattern, wanted string) bool {
			return subject.Overlaps(pattern, wanted) && !subject.Covers(wanted, pattern)
		}
		for _, wanted := range want {
			some := slices.ContainsFunc(have, func(pattern string) bool { return overlaps(pattern, wanted) })
			pattern, found := set.besides(wanted)
			if found != some {
				t.Fatalf("besides(%s) = %q, %t for %q, want %t", wanted, pattern, found, have, some)
			}
			if found && (!slices.Contains(have, pattern) || !overlaps(pattern, wanted)) {
				t.Fatalf("besides(%s) = %q of %q", wanted, pattern, have)
			}
		}
	})
}
