package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/internal/chaos/internal/errand"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/fault"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/harvest"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/stage"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/verdict"
)

// report is what a run counts. The zero value is ready to use.
type report struct {
	rounds   int
	findings int
	maybe    int            // transactions whose COMMIT was not answered
	byFault  map[string]int // how often
	byStream map[string]*totals
	took     map[string][]time.Duration // takeovers by fault
	byErrand map[errand.Kind]errand.Counts
	byReader map[string]int // messages
}

// totals are those of a stream, or of core subjects.
type totals struct {
	events, arrived, announced, caughtUp, excused, forgotten, late, falseGaps, rows int
	gaps, catchUps, findings                                                        map[string]int
}

// add counts a comparison, and returns it in a few words.
func (r *report) add(name string, v verdict.Result) string {
	if r.byStream == nil {
		r.byStream = map[string]*totals{}
	}
	t := r.byStream[name]
	if t == nil {
		t = &totals{gaps: map[string]int{}, catchUps: map[string]int{}, findings: map[string]int{}}
		r.byStream[name] = t
	}
	t.events, t.arrived, t.announced = t.events+v.Events, t.arrived+v.Arrived, t.announced+v.Announced
	t.excused, t.forgotten, t.falseGaps = t.excused+v.Excused, t.forgotten+v.Forgotten, t.falseGaps+v.False
	t.late, t.caughtUp, t.rows = t.late+v.Late, t.caughtUp+v.CaughtUp, t.rows+v.Rows
	for outcome, n := range v.CatchUps {
		t.catchUps[outcome] += n
	}
	gaps := 0
	for reason, n := range v.Gaps {
		t.gaps[string(reason)] += n
		gaps += n
	}
	for _, f := range v.Findings {
		t.findings[f.Kind]++
	}
	return fmt.Sprintf("; %s %d events, %d announced lost, %d caught up, %d gaps", name, v.Events, v.Announced, v.CaughtUp, gaps)
}

func (r *report) faults(records []fault.Record) {
	r.rounds++
	if r.byFault == nil {
		r.byFault = map[string]int{}
	}
	for _, record := range records {
		r.byFault[record.Name]++
	}
}

// read counts what a reader was given.
func (r *report) read(name string, n int) {
	if r.byReader == nil {
		r.byReader = map[string]int{}
	}
	r.byReader[name] += n
}

// errands counts what was asked for, and returns it in a few words.
func (r *report) errands(counts map[errand.Kind]errand.Counts) string {
	if r.byErrand == nil {
		r.byErrand = map[errand.Kind]errand.Counts{}
	}
	line := ""
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		if r.byErrand[kind] == nil {
			r.byErrand[kind] = errand.Counts{}
		}
		line += "; " + string(kind) + outcomes(counts[kind])
		for outcome, n := range counts[kind] {
			r.byErrand[kind][outcome] += n
		}
	}
	return line
}

func outcomes(c errand.Counts) (text string) {
	for _, outcome := range []errand.Outcome{errand.Done, errand.NotDone, errand.Maybe} {
		if c[outcome] > 0 {
			text += fmt.Sprintf(" %d %s", c[outcome], outcome)
		}
	}
	return text
}

// takeovers measures how long nothing came after the publishing replica was hit: from
// the fault to the first message that another one stored. What was on its way counts
// as before. Where another fault came in between it is not measured.
func (r *report) takeovers(records []fault.Record, s *reading) {
	const onItsWay, flowing = 30 * time.Millisecond, 500 * time.Millisecond
	if r.took == nil {
		r.took = map[string][]time.Duration{}
	}
	for _, record := range records {
		if !record.Holder || !record.Ends {
			continue
		}
		i := slices.IndexFunc(s.items, func(i harvest.Item) bool { return i.At.After(record.At.Add(onItsWay)) })
		if i > 0 && record.At.Sub(s.items[i-1].At) < flowing && !slices.ContainsFunc(records, func(other fault.Record) bool {
			return other.At.After(record.At) && other.At.Before(s.items[i].At)
		}) {
			name := record.Name + ", " + map[bool]string{true: "durable", false: "plain"}[s.kind == stage.Durable]
			r.took[name] = append(r.took[name], s.items[i].At.Sub(record.At))
		}
	}
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%d rounds, %d faults\n", r.rounds, sum(r.byFault))
	for _, name := range slices.Sorted(maps.Keys(r.byFault)) {
		fmt.Fprintf(w, "  %5d %s\n", r.byFault[name], name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.byStream)) {
		t := r.byStream[name]
		fmt.Fprintf(w, "%s: %d events committed, %d arrived, %d in announced windows, %d while the subscriber was away, %d came whose database is gone, %d came late over a frozen link\n",
			name, t.events, t.arrived, t.announced, t.excused, t.forgotten, t.late)
		fmt.Fprintf(w, "  gaps: %s(%d of them with nothing missing); findings: %s\n", counts(t.gaps), t.falseGaps, counts(t.findings))
		if len(t.catchUps) > 0 {
			fmt.Fprintf(w, "  catch-ups: %swith %d rows, %d of them of events that did not come otherwise\n", counts(t.catchUps), t.rows, t.caughtUp)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(r.byErrand)) {
		fmt.Fprintf(w, "%s:%s\n", kind, outcomes(r.byErrand[kind]))
	}
	for _, name := range slices.Sorted(maps.Keys(r.byReader)) {
		fmt.Fprintf(w, "%s was given %d messages\n", name, r.byReader[name])
	}
	fmt.Fprintf(w, "%d transactions whose COMMIT was not answered\n", r.maybe)
	if len(r.took) > 0 {
		fmt.Fprintln(w, "from the fault to the next event:")
	}
	for _, name := range slices.Sorted(maps.Keys(r.took)) {
		all := slices.Sorted(slices.Values(r.took[name]))
		fmt.Fprintf(w, "  %-50s median %s, at most %s (%d)\n", name, all[len(all)/2].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond), len(all))
	}
	fmt.Fprintf(w, "%d discrepancies\n", r.findings)
}

func counts(m map[string]int) string {
	if len(m) == 0 {
		return "none "
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%d %s ", m[name], name)
	}
	return b.String()
}

func sum(m map[string]int) (n int) {
	for _, one := range m {
		n += one
	}
	return n
}

func lines(items []harvest.Item) []string {
	var all []string
	for _, i := range items {
		all = append(all, i.String())
	}
	return all
}

// write saves lines; where it cannot, whoever looks for them will see.
func write(dir, name string, lines []string) {
	_ = os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}
