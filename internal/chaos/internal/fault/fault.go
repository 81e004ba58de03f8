// Package fault breaks things at random and heals them again. What a seed chooses is
// the same each time; what happens between two processes meanwhile is not.
package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/chaos/internal/stage"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/timeline"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Kind is a group of faults, as the command line names them.
type Kind string

// The groups.
const (
	Replicas Kind = "replica"  // killed, stopped, frozen, reloaded, updated
	Backends Kind = "backend"  // terminated
	Links    Kind = "link"     // cut, frozen, slow
	NATS     Kind = "nats"     // restarted, killed, leaders that step down
	Streams  Kind = "stream"   // full, purged
	Markers  Kind = "marker"   // forged, replayed
	DDL      Kind = "ddl"      // schema changes, silence
	Postgres Kind = "postgres" // restarted, killed
	Failover Kind = "failover" // a standby is promoted
	Kills    Kind = "kill"     // replicas are killed, and nothing else
	Updates  Kind = "update"   // replicas are updated, one or all in turn, and nothing else
)

// Scene is what faults happen to. Its methods are for one goroutine.
type Scene struct {
	T        testing.TB
	Stage    *stage.Stage
	Timeline *timeline.Timeline
	Dice     *rand.Rand
	Pause    func() (resume func())                                   // of the writers
	Harvest  func(ctx context.Context, stream string) (uint64, error) // reads a stream, and tells up to where
	Streams  []string                                                 // that may be purged or filled
	Purged   map[string]uint64                                        // by stream, up to which sequence it was
	Records  []Record
}

// Record is a fault that has happened.
type Record struct {
	Name   string
	At     time.Time
	Ended  time.Time // all of it is healed
	Holder bool      // it hit the replica that published
	Ends   bool      // the replica publishes no more after it
	// HoldsBack: a process or a link was frozen or slow, so that what was sent before
	// arrives later.
	HoldsBack bool
}

type fault struct {
	name   string
	kind   Kind
	weight int
	do     func(context.Context, *Scene) error
}

func all() []fault {
	return []fault{
		{"SIGKILL of a replica", Replicas, 8, killReplica},
		{"SIGSTOP of a replica", Replicas, 4, freezeReplica},
		{"SIGTERM of a replica", Replicas, 4, stopReplica},
		{"update of a replica", Replicas, 2, updateReplica},
		{"rolling update", Replicas, 1, updateAll},
		{"reload", Replicas, 2, reload},
		{"reload and SIGKILL", Replicas, 3, reloadAndKill},
		{"a backend terminated", Backends, 6, terminateOne},
		{"all backends of a replica terminated", Backends, 3, terminateAll},
		{"link to PostgreSQL cut", Links, 3, func(ctx context.Context, s *Scene) error { return s.cut(ctx, true) }},
		{"link to NATS cut", Links, 3, func(ctx context.Context, s *Scene) error { return s.cut(ctx, false) }},
		{"link to PostgreSQL frozen", Links, 2, func(ctx context.Context, s *Scene) error { return s.freeze(ctx, true) }},
		{"link to NATS frozen", Links, 2, func(ctx context.Context, s *Scene) error { return s.freeze(ctx, false) }},
		{"slow links", Links, 1, slowLinks},
		{"restart of a nats-server", NATS, 3, restartNATS},
		{"SIGKILL of a nats-server", NATS, 3, killNATS},
		{"leader step-down", NATS, 4, stepDown},
		{"stream purged", Streams, 2, purge},
		{"stream full", Streams, 2, fill},
		{"forged marker", Markers, 2, forgeMarker},
		{"replayed markers", Markers, 2, replayMarkers},
		{"schema changed", DDL, 2, changeSchema},
		{"silence", DDL, 1, silence},
		{"restart of PostgreSQL", Postgres, 2, restartPostgres},
		{"SIGKILL of PostgreSQL", Postgres, 3, killPostgres},
		{"failover", Failover, 6, failOver},
		{"SIGKILL of a replica", Kills, 1, killReplica},
		{"update of a replica", Updates, 1, updateReplica},
		{"rolling update", Updates, 2, updateAll},
	}
}

// Choose returns the faults of some kinds, to be drawn by their weights.
func Choose(kinds []Kind, servers int) (*Deck, error) {
	d := &Deck{}
	for _, kind := range kinds {
		before := len(d.faults)
		for _, f := range all() {
			if f.kind == kind && (servers > 1 || f.name != "leader step-down") {
				d.faults, d.sum = append(d.faults, f), d.sum+f.weight
			}
		}
		if len(d.faults) == before {
			return nil, fmt.Errorf("no faults of the kind %q", kind)
		}
	}
	return d, nil
}

// Deck is what is drawn from.
type Deck struct {
	faults []fault
	sum    int
}

// Next lets one fault happen and heals it.
func (d *Deck) Next(ctx context.Context, s *Scene) error {
	n := s.Dice.IntN(d.sum)
	for _, f := range d.faults {
		if n -= f.weight; n >= 0 {
			continue
		}
		s.Records = append(s.Records, Record{Name: f.name, At: time.Now()})
		if err := f.do(ctx, s); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		s.Records[len(s.Records)-1].Ended = time.Now()
		break
	}
	for _, r := range s.Stage.Replicas {
		if err := r.Runs(); err != nil {
			return err
		}
	}
	return nil
}

// hit notes what the fault that is under way does, and to whom.
func (s *Scene) hit(r *stage.Replica, holder, ends bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if r != nil {
		text += " of replica " + r.Name
		if holder {
			text += ", which publishes"
		}
	}
	s.Timeline.Note("%s", text)
	last := &s.Records[len(s.Records)-1]
	last.At, last.Holder, last.Ends = time.Now(), holder, ends
}

// holdsBack notes that the fault that is under way freezes something.
func (s *Scene) holdsBack() { s.Records[len(s.Records)-1].HoldsBack = true }

// replica chooses one, the holder more often than not.
func (s *Scene) replica(ctx context.Context) (_ *stage.Replica, holder bool) {
	publishing := s.Stage.Holder(ctx)
	if publishing != nil && s.Dice.IntN(10) < 6 {
		return publishing, true
	}
	r := s.Stage.Replicas[s.Dice.IntN(len(s.Stage.Replicas))]
	return r, r == publishing
}

// between draws a time, and waits for it.
func (s *Scene) between(ctx context.Context, shortest, longest time.Duration) {
	wait.For(ctx, shortest+time.Duration(s.Dice.Int64N(int64(longest-shortest)+1)))
}

// length is that of a freeze, most of them around the lease and the limits of
// sessions.
func (s *Scene) length() time.Duration {
	lengths := []int{50, 300, 1000, 2000, 3000, 3400, 3500, 3600, 3900, 4000, 4100, 4600, 5200, 7000, 11000}
	return time.Duration(lengths[s.Dice.IntN(len(lengths))]+s.Dice.IntN(200)) * time.Millisecond
}
