package testenv

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// WantDrawn holds that a file, a package comment or a document, draws exactly these
// transitions, each as "from | why | to", with an arrow like
//
//	from ── why ──► to
//
// on a line of its own.
func WantDrawn(t testing.TB, file string, transitions []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	arrow := regexp.MustCompile(`(?m)^(?://)?\s*([a-z]+) ─+ ([a-z ]+?) ─+► ([a-z]+)$`)
	var drawn []string
	for _, m := range arrow.FindAllStringSubmatch(string(text), -1) {
		drawn = append(drawn, m[1]+" | "+m[2]+" | "+m[3])
	}
	slices.Sort(drawn)
	if want := slices.Sorted(slices.Values(transitions)); !slices.Equal(drawn, want) {
		t.Errorf("%s draws\n%q, want\n%q", file, drawn, want)
	}
}
