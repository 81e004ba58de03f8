package subject

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"
)

// TestPatternsMatchAsInNATS asks nats-server which subjects match: a
// pattern covers another when it takes every subject that the other takes.
// Subjects of four tokens at most, some of them in no pattern, tell any two
// patterns of three apart.
func TestPatternsMatchAsInNATS(t *testing.T) {
	t.Parallel()
	subjects := subjectsOf([]string{"a", "b", "z"}, 4)
	pattern := rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*"}), 1, 3).Draw(t, "tokens")
		if rapid.Bool().Draw(t, "open") {
			tokens[len(tokens)-1] = ">"
		}
		return strings.Join(tokens, ".")
	})
	rapid.Check(t, func(t *rapid.T) {
		p, sub := pattern.Draw(t, "pattern"), pattern.Draw(t, "sub")
		want := !slices.ContainsFunc(subjects, func(s string) bool {
			return server.SubjectMatchesFilter(s, sub) && !server.SubjectMatchesFilter(s, p)
		})
		if got := Covers(p, sub); got != want {
			t.Fatalf("Covers(%q, %q) = %t, want %t", p, sub, got, want)
		}
		if got, want := Overlaps(p, sub), server.SubjectsCollide(p, sub); got != want {
			t.Fatalf("Overlaps(%q, %q) = %t, want %t", p, sub, got, want)
		}
	})
}

func subjectsOf(words []string, tokens int) []string {
	all := words
	for last := words; tokens > 1; tokens-- {
		var longer []string
		for _, s := range last {
			for _, w := range words {
				longer = append(longer, s+"."+w)
			}
		}
		all, last = append(slices.Clone(all), longer...), longer
	}
	return all
}
