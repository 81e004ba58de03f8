package shells

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// What clients have named is offered only where it can be nothing but a word.
func TestHostileNamesAreNotOffered(t *testing.T) {
	t.Parallel()
	var c struct {
		Run struct {
			ID string `arg:""`
		} `cmd:""`
	}
	app, err := kong.New(&c, kong.Name("pgbridge"))
	if err != nil {
		t.Fatal(err)
	}
	named := []string{"order-77", "größe 1", "--server=nats://elsewhere", "-s", "a\x1b[2J", "a\nb", "a\u009b2J", "\u202ea", "_activeHelp_ a", "a\xff", ""}
	if got := offered(t, app, named); !slices.Equal(got, named[:2]) {
		t.Errorf("offered are %q, want %q", got, named[:2])
	}
	for _, tt := range []struct{ named, want []string }{ // bash types what all begin with, unquoted
		{[]string{"$(touch x)"}, []string{"$(touch x)"}},
		{[]string{"$(touch x)1", "$(touch x)2"}, nil},
		{[]string{"a`b`1", "a`b`2", "a`b`3"}, nil},
		{[]string{"two words", "two weeks"}, nil},
		{[]string{"ä;b", "ö;b"}, []string{"ä;b", "ö;b"}},
		{[]string{"ab;c", "ab", "abc"}, []string{"ab;c", "ab", "abc"}},
	} {
		if got := offered(t, app, tt.named); !slices.Equal(got, tt.want) {
			t.Errorf("of %q offered are %q, want %q", tt.named, got, tt.want)
		}
	}
}

// offered is what a shell gets to choose from.
func offered(t *testing.T, app *kong.Kong, named []string) []string {
	t.Helper()
	var out strings.Builder
	if err := Answer(app.Model, []string{"__complete", "run", ""}, &out, func(string, []string, map[string]string) ([]string, bool) { return named, true }); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	return lines[:len(lines)-2]
}

// What is complete on the line is no code: fish has taken its quotes off.
func TestFishRunsNoWord(t *testing.T) {
	t.Parallel()
	app, err := kong.New(&struct{}{}, kong.Name("pgbridge"))
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	if err := Script(app.Model, "fish", &script); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(script.String(), "$args[2..-1]"); got != 1 || !strings.Contains(script.String(), "(string escape -- $args[2..-1] |") {
		t.Errorf("the words stand in the script %d times, and not only where they are quoted", got)
	}
	for _, other := range []string{"", "$args[2..-1]", cobrasArgs + cobrasArgs} {
		if _, err := harmless(other); err == nil {
			t.Errorf("%q is taken for cobra's script", other)
		}
	}
}
