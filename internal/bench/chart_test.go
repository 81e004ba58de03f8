package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestDocumentsShowTheChart holds that the chart in the documents is that of the
// figures beside it.
func TestDocumentsShowTheChart(t *testing.T) {
	t.Parallel()
	drawn := filepath.Join(t.TempDir(), "figures.svg")
	if err := drawAgain("../../docs/figures.json", drawn); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/figures.svg")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(drawn)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(want, []byte(`class="ours"`)); n != len(charted) {
		t.Errorf("docs/figures.json has %d of the chart's %d figures", n, len(charted))
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/figures.svg is not the chart of docs/figures.json: make bench-chart, or go run ./internal/bench -draw docs/figures.json -svg docs/figures.svg")
	}
}

// TestTheBetterBarIsTheLongerOne looks at a rate and at a time, in both of which the
// other one is twice as good.
func TestTheBetterBarIsTheLongerOne(t *testing.T) {
	t.Parallel()
	r := report{Processor: "<another>", Figures: []*figure{
		{What: "throughput, core", Value: 100, Unit: "events/s", Beside: aBareLoop, Other: 200},
		{What: "copy in", Value: 200, Unit: "ms", Beside: `psql's \copy`, Other: 100},
		{What: "not on the chart", Value: 200, Unit: "ms", Beside: "another", Other: 100},
		{What: "alone", Value: 1, Unit: "s"},
	}}
	chart := r.chart()
	var widths []string
	for _, bar := range regexp.MustCompile(`<rect [^>]*width="(\d+)"[^>]*class="(\w+)"`).FindAllSubmatch(chart, -1) {
		widths = append(widths, string(bar[2])+" "+string(bar[1]))
	}
	want := []string{"ours 150", "other 300", "ours 150", "other 300"}
	if len(widths) != len(want) {
		t.Fatalf("bars %q, want %q", widths, want)
	}
	for i := range want {
		if widths[i] != want[i] {
			t.Errorf("bars %q, want %q", widths, want)
			break
		}
	}
	if bytes.Contains(chart, []byte("<another>")) {
		t.Error("a name is taken for an element")
	}
}
