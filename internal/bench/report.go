package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one that pgbridge reached, and what it is compared to in the same run.
type figure struct {
	What   string  `json:"what"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Beside string  `json:"beside,omitempty"` // empty: nothing
	Other  float64 `json:"other,omitempty"`
	Ratio  float64 `json:"ratio,omitempty"` // Value to Other; where time is compared too
	// AtLeast and AtMost are what the ratio should be, or the value where nothing is
	// beside it. Zero: there is no aim.
	AtLeast float64 `json:"at_least,omitempty"`
	AtMost  float64 `json:"at_most,omitempty"`
}

// aim is what is wanted; empty: nothing.
func (f *figure) aim() string {
	switch {
	case f.AtLeast != 0:
		return fmt.Sprintf("≥ %.4g", f.AtLeast)
	case f.AtMost != 0:
		return fmt.Sprintf("≤ %.4g", f.AtMost)
	}
	return ""
}

// reached says whether the aim was.
func (f *figure) reached() bool {
	reached := f.Value
	if f.Beside != "" {
		reached = f.Ratio
	}
	return f.AtLeast == 0 && f.AtMost == 0 || f.AtLeast != 0 && reached >= f.AtLeast || f.AtMost != 0 && reached <= f.AtMost
}

func (f *figure) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s", f.What, number(f.Value), f.Unit)
	if f.Beside != "" {
		fmt.Fprintf(&b, ", %s %s %s, ratio %.2f", f.Beside, number(f.Other), f.Unit, f.Ratio)
	}
	if aim := f.aim(); aim != "" {
		fmt.Fprintf(&b, ", want %s", aim)
		if !f.reached() {
			b.WriteString(" (missed)")
		}
	}
	return b.String()
}

func number(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// report is what a run of this program has found out, with where.
type report struct {
	Date       string    `json:"date"`
	System     string    `json:"system"`
	Processor  string    `json:"processor,omitempty"`
	Cores      int       `json:"cores"`
	PostgreSQL string    `json:"postgresql"`
	Figures    []*figure `json:"figures"`
}

func newReport(postgresVersion string) *report {
	return &report{
		Date: time.Now().Format(time.DateOnly), System: runtime.GOOS + "/" + runtime.GOARCH, Processor: processor(), Cores: runtime.NumCPU(),
		PostgreSQL: postgresVersion,
	}
}

// processor is what the system calls it; empty where it does not tell.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// add prints a figure and keeps it.
func (r *report) add(f *figure) {
	if f.Beside != "" {
		f.Ratio = f.Value / f.Other
	}
	r.Figures = append(r.Figures, f)
	fmt.Println(f)
}

// table prints all figures.
func (r *report) table(to io.Writer) error {
	fmt.Fprintf(to, "\n%s, %d cores, %s %s, PostgreSQL %s with fsync on\n\n", r.Date, r.Cores, r.Processor, r.System, r.PostgreSQL)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tPGBRIDGE\tBESIDE\t\tRATIO\tWANT\t")
	for _, f := range r.Figures {
		other, ratio, missed := "", "", ""
		if f.Beside != "" {
			other, ratio = number(f.Other), fmt.Sprintf("%.2f", f.Ratio)
		}
		if !f.reached() {
			missed = "missed"
		}
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\t%s\t%s\t%s\n", f.What, number(f.Value), f.Unit, f.Beside, other, ratio, f.aim(), missed)
	}
	return w.Flush()
}

// write writes the report to files; an empty name means that nobody wants it.
func (r *report) write(jsonFile, svgFile string) error {
	if jsonFile != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(jsonFile, append(text, '\n'), 0o666); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if svgFile != "" {
		if err := os.WriteFile(svgFile, r.chart(), 0o666); err != nil {
			return fmt.Errorf("write the chart: %w", err)
		}
	}
	return nil
}

// drawAgain writes the chart of a report that an earlier run has written.
func drawAgain(jsonFile, svgFile string) error {
	text, err := os.ReadFile(jsonFile)
	if err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read the report %s: %w", jsonFile, err)
	}
	return r.write("", svgFile)
}
