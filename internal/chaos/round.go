package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/fault"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/harvest"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/ledger"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/stage"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/verdict"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// round lets faults happen, waits for quiet and compares.
func (r *runner) round(ctx context.Context, number int, until time.Time) error {
	began := time.Now()
	for range r.options.perRound {
		if time.Now().After(until) || !wait.For(ctx, time.Duration(r.scene.Dice.IntN(800))*time.Millisecond) {
			break
		}
		if err := r.deck.Next(ctx, r.scene); err != nil {
			return err
		}
		if r.options.ring || r.scene.Dice.IntN(3) == 0 {
			if err := r.stage.Ready(ctx); err != nil {
				return err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	resume := r.writers.Pause()
	defer resume()
	goOn := r.errands.Pause()
	defer goOn()
	r.timeline.Note("the writers pause, everything is to arrive")
	if err := r.stage.Ready(ctx); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		r.found(number, []verdict.Finding{{Kind: "stalled", Detail: err.Error(), At: time.Now()}})
	}
	return r.compare(ctx, number, began)
}

// settle sends a last event to each channel, and waits until all have come. Where a
// gap swallowed one it is sent again.
func (r *runner) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for len(r.profile.channels) > 0 {
		last, err := r.writers.Last(ctx)
		if err != nil {
			return err
		}
		missing := ""
		for sent := time.Now(); time.Since(sent) < resendAfter; {
			if missing, err = r.missing(ctx, last); err != nil || missing == "" {
				return err
			}
			if !wait.For(ctx, settleEvery) {
				return fmt.Errorf("all replicas are ready and the writers silent, but %s does not come within %s", missing, settleLimit)
			}
		}
		r.timeline.Note("%s has not come, one more is sent", missing)
	}
	return nil
}

// missing names one of the last events that has not come.
func (r *runner) missing(ctx context.Context, last map[string]string) (string, error) {
	for name, s := range r.streams {
		if _, err := r.harvest(ctx, name); err != nil {
			return "", err
		}
		for channel := range s.sizes {
			if !slices.ContainsFunc(s.items, func(i harvest.Item) bool { return i.Live() && i.Channel == channel && i.Key == last[channel] }) {
				return "the last event of " + channel, nil
			}
		}
	}
	for channel := range r.profile.of(stage.Core) {
		if !r.core.Has(channel, last[channel]) {
			return "the last event of " + channel, nil
		}
	}
	return r.unread(), nil
}

func (r *runner) compare(ctx context.Context, number int, began time.Time) error {
	conn, err := pgx.Connect(ctx, r.stage.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	events, err := r.oracle.Read(ctx, conn)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("round %d: %s", number, time.Since(began).Round(time.Second))
	findings, err := r.compareReaders(ctx)
	if err != nil {
		return err
	}
	var kept []harvest.Item
	for name, s := range r.streams {
		result := verdict.Compare(among(events, s.sizes), s.items, r.rules(s.kind))
		line += r.report.add(name, result)
		findings = append(findings, result.Findings...)
		r.report.takeovers(r.scene.Records, s)
	}
	if r.core != nil {
		items, away, faults := r.core.Take()
		sizes := r.profile.of(stage.Core)
		result := verdict.Compare(among(events, sizes), items, r.coreRules(away))
		line += r.report.add("core", result)
		findings = append(findings, result.Findings...)
		for _, err := range faults {
			findings = append(findings, verdict.Finding{Kind: "subscriber", Detail: err.Error(), At: time.Now()})
		}
		kept = items
	}
	findings = append(findings, r.unanswered(events)...)
	counts, faulty, err := r.errands.Compare(ctx, conn)
	if err != nil {
		return err
	}
	line += r.report.errands(counts)
	findings = append(findings, faulty...)
	r.report.faults(r.scene.Records)
	fmt.Fprintf(r.out, "%s; %d faults, %d findings\n", line, len(r.scene.Records), len(findings))
	if len(findings) > 0 {
		r.found(number, findings)
		r.keep(number, events, kept)
	}
	for _, s := range r.streams {
		s.items = nil
	}
	r.scene.Records = nil
	return ledger.Forget(ctx, conn, events)
}

// rules of a channel. Durable channels miss nothing and announce nothing. What a plain
// one misses has to lie in an announced window; with the ring a stream misses nothing.
// Where a standby was promoted the same is true of durable ones: before PostgreSQL 17
// a slot does not come along. One that does, and is waited for, makes no exception.
func (r *runner) rules(kind stage.Channel) verdict.Rules {
	if r.profile.standby && !r.profile.synced {
		return verdict.Rules{Forgotten: kind == stage.Durable, CatchesUp: r.profile.catchesUp}
	}
	if kind == stage.Durable || r.options.ring {
		return verdict.Rules{Uncovered: true, Allowed: func(api.Gap) bool { return false }}
	}
	return verdict.Rules{CatchesUp: r.profile.catchesUp}
}

// coreRules have the subscriber's own absence count, and a moment more on both sides,
// and let come late what a replica or a link held back while it was frozen.
func (r *runner) coreRules(away []harvest.Away) verdict.Rules {
	const (
		margin = 5 * time.Second // how long a server may keep an event before it is published
		late   = 3 * time.Second // after a link passes again
	)
	records := r.scene.Records
	return verdict.Rules{
		CatchesUp: r.profile.catchesUp,
		Away: func(from, to time.Time) bool {
			return slices.ContainsFunc(away, func(a harvest.Away) bool {
				return to.After(a.From.Add(-margin)) && (a.To.IsZero() || from.Before(a.To.Add(time.Second)))
			})
		},
		Late: func(i harvest.Item) bool {
			return slices.ContainsFunc(records, func(r fault.Record) bool {
				return r.HoldsBack && i.At.After(r.At) && i.At.Before(r.Ended.Add(late))
			})
		},
	}
}

func among(events []ledger.Event, sizes map[string]int) []ledger.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e ledger.Event) bool { return sizes[e.Channel] == 0 })
}

// unanswered are events whose COMMIT PostgreSQL answered, and which it does not have.
func (r *runner) unanswered(events []ledger.Event) []verdict.Finding {
	taken := r.writers.Take()
	r.report.maybe += taken.Maybe
	for text, n := range taken.Refused {
		r.timeline.Note("%d writers were told: %s", n, text)
	}
	there := map[int64]bool{}
	for _, e := range events {
		there[e.ID] = true
	}
	var findings []verdict.Finding
	for _, id := range taken.Answered {
		if !there[id] {
			findings = append(findings, verdict.Finding{Kind: "postgres", Detail: fmt.Sprintf("COMMIT of event %d was answered, and it is not there", id), At: time.Now()})
		}
	}
	return findings
}

// found prints discrepancies, the first of them with what led there.
func (r *runner) found(number int, findings []verdict.Finding) {
	r.report.findings += len(findings)
	slices.SortStableFunc(findings, func(a, b verdict.Finding) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	const shown = 10
	for i, f := range findings {
		if i == shown {
			fmt.Fprintf(r.out, "  and %d more\n", len(findings)-shown)
			break
		}
		fmt.Fprintf(r.out, "  %s: %s\n", f.Kind, f.Detail)
	}
	at := findings[0].At
	fmt.Fprintf(r.out, "  seed %d, round %d, what happened around the first of them:\n%s", r.options.seed, number,
		r.timeline.Around(at.Add(-20*time.Second), at.Add(10*time.Second)))
}

// keep saves what belongs to a round with findings.
func (r *runner) keep(number int, events []ledger.Event, core []harvest.Item) {
	dir := filepath.Join(r.options.keep, fmt.Sprintf("%s-%d-%d", r.options.profile, r.options.seed, number))
	// What is above it holds PostgreSQL's programs, too, which another user runs.
	err := os.MkdirAll(filepath.Dir(dir), 0o755) //nolint:gosec // as said
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		fmt.Fprintln(r.out, "  nothing is kept:", err)
		return
	}
	var committed []string
	for _, e := range events {
		committed = append(committed, fmt.Sprintf("%s %s %d %s", e.Committed.UTC().Format("15:04:05.000000"), e.Channel, e.ID, e.Kind))
	}
	write(dir, "committed", committed)
	for name, s := range r.streams {
		write(dir, name, lines(s.items))
	}
	write(dir, "core", lines(core))
	write(dir, "timeline", []string{r.timeline.Around(time.Time{}, time.Now())})
	for _, log := range r.stage.Logs() {
		if text, err := os.ReadFile(log); err == nil {
			write(dir, filepath.Base(log), []string{string(text)})
		}
	}
	fmt.Fprintln(r.out, "  kept in", dir)
}
