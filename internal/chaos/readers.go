package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/chaos/internal/fault"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/harvest"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/stage"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/verdict"
)

// readers are those of the durable channels, besides the comparison itself: a durable
// consumer that acknowledges, an ordered one, and a subscriber of core subjects, which
// hears what is published to the stream. The zero value reads nothing.
type readers struct {
	stored    verdict.Stored
	consumers []*harvest.Reader
	core      *harvest.Core
}

// openReaders begins to listen; the consumers run with the writers.
func (r *runner) openReaders(t testing.TB) (err error) {
	sizes := r.profile.of(stage.Durable)
	if len(sizes) == 0 {
		return nil
	}
	r.readers.consumers = []*harvest.Reader{
		harvest.Acknowledging(r.stage.JS, durableStream, rand.New(rand.NewPCG(r.options.seed, 2))),
		harvest.Live(r.stage.JS, durableStream),
	}
	if r.readers.core, err = harvest.Subscribe(r.stage.NATSURL(), r.stage.Conn.Opts.Name, "pgbridge", sizes); err == nil {
		t.Cleanup(r.readers.core.Close)
	}
	return err
}

// unread names a consumer that has not been given all that the stream has.
func (r *runner) unread() string {
	s := r.streams[durableStream]
	for _, c := range r.readers.consumers {
		if slices.ContainsFunc(s.items, func(i harvest.Item) bool { return i.Seq > r.scene.Purged[durableStream] && !c.Has(i.Seq) }) {
			return "the stream's end at " + c.Name
		}
	}
	return ""
}

// compareReaders compares what the readers have with what the stream has.
func (r *runner) compareReaders(ctx context.Context) (findings []verdict.Finding, err error) {
	s := r.streams[durableStream]
	if s == nil {
		return nil, nil
	}
	heard, away, faults := r.readers.core.Take()
	var given [][]harvest.Seen
	for _, c := range r.readers.consumers {
		given = append(given, c.Take())
	}
	if _, err := r.harvest(ctx, durableStream); err != nil { // what came to them is stored
		return nil, err
	}
	r.readers.stored.Purged = r.scene.Purged[durableStream]
	for i, c := range r.readers.consumers {
		r.report.read(c.Name, len(given[i]))
		findings = append(findings, verdict.Read(&r.readers.stored, s.items, c, given[i])...)
	}
	r.report.read("the subscriber of durable channels", len(heard))
	records := r.scene.Records
	findings = append(findings, verdict.Heard(&r.readers.stored, s.items, heard, func(at time.Time) bool { return unheardThen(at, away, records) })...)
	for _, err := range faults {
		findings = append(findings, verdict.Finding{Kind: "subscriber", Detail: err.Error(), At: time.Now()})
	}
	return findings, nil
}

// unheardThen excuses a subscriber of core subjects that missed what was stored at that
// time: its connection was away, or servers of the cluster were to each other.
func unheardThen(at time.Time, away []harvest.Away, records []fault.Record) bool {
	const before, after = time.Second, 5 * time.Second
	return slices.ContainsFunc(away, func(a harvest.Away) bool {
		return at.After(a.From.Add(-before)) && (a.To.IsZero() || at.Before(a.To.Add(before)))
	}) || slices.ContainsFunc(records, func(r fault.Record) bool {
		return strings.Contains(r.Name, "nats-server") && at.After(r.At.Add(-before)) && at.Before(r.Ended.Add(after))
	})
}
