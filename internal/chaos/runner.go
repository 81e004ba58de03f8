package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/errand"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/fault"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/harvest"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/ledger"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/stage"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/timeline"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	eventStream   = "PGBRIDGE_EVENTS"
	durableStream = "PGBRIDGE_DURABLE"
	settleLimit   = 2 * time.Minute // for what was committed to arrive, all replicas being ready
	attemptLimit  = 15 * time.Second
	patience      = 15 * time.Second // with a replica that was taken away with a request
	settleEvery   = 200 * time.Millisecond
	resendAfter   = 5 * time.Second
)

// runner is one run. Its methods are for one goroutine.
type runner struct {
	options  options
	out      io.Writer
	profile  profile
	timeline *timeline.Timeline
	stage    *stage.Stage
	writers  *ledger.Writers
	oracle   interface {
		Read(ctx context.Context, conn *pgx.Conn) ([]ledger.Event, error)
	}
	core    *harvest.Core
	readers readers
	errands *errand.Errands
	scene   *fault.Scene
	deck    *fault.Deck
	streams map[string]*reading
	before  stage.Vitals
	report  report
}

// reading is a stream that is read.
type reading struct {
	kind  stage.Channel
	sizes map[string]int // of its channels
	after uint64
	items []harvest.Item // of this round
}

func (r *runner) run(t testing.TB) error {
	ctx := t.Context()
	if err := r.open(t); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "chaos: -seed %d -for %s -profile %s -replicas %d -servers %d\n",
		r.options.seed, r.options.length, r.options.profile, r.options.replicas, r.options.servers)
	var err error
	if r.before, err = r.vitals(ctx); err != nil {
		return err
	}
	writing, stop := context.WithCancel(ctx)
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	if len(r.profile.channels) > 0 {
		writers.Go(func() { r.writers.Run(writing) })
	}
	writers.Go(func() { r.errands.Run(writing) })
	for _, c := range r.readers.consumers {
		writers.Go(func() { c.Run(writing) })
	}
	until := time.Now().Add(r.options.length)
	for number := 1; time.Now().Before(until) && ctx.Err() == nil; number++ {
		if err := r.round(ctx, number, until); err != nil {
			r.keep(number, nil, nil)
			return fmt.Errorf("round %d: %w\n%s", number, err, r.timeline.Around(time.Now().Add(-time.Minute), time.Now()))
		}
	}
	stop()
	writers.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.leave(ctx)
}

// vitals are those of all replicas together, when nothing happens.
func (r *runner) vitals(ctx context.Context) (all stage.Vitals, err error) {
	for _, replica := range r.stage.Replicas {
		v, err := replica.Vitals(ctx)
		if err != nil {
			return all, err
		}
		all.Goroutines, all.Bytes = all.Goroutines+v.Goroutines, all.Bytes+v.Bytes
	}
	return all, nil
}

// leave looks at what the replicas hold after all that, stops them, and looks for what
// they left.
func (r *runner) leave(ctx context.Context) error {
	after, err := r.vitals(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "the replicas had %d goroutines and %d MiB at the start, and %d and %d MiB at the end\n",
		r.before.Goroutines, r.before.Bytes>>20, after.Goroutines, after.Bytes>>20)
	left, err := r.stage.Leftovers(ctx)
	if err != nil {
		return err
	}
	// A pool that was used has a few goroutines more than one that was not.
	if spare := 20 * len(r.stage.Replicas); after.Goroutines > r.before.Goroutines+spare {
		left = append(left, fmt.Sprintf("%d goroutines of %d", after.Goroutines-r.before.Goroutines, after.Goroutines))
	}
	if spare := int64(len(r.stage.Replicas)) * 128 << 20; after.Bytes > r.before.Bytes+spare {
		left = append(left, fmt.Sprintf("%d MiB of memory", (after.Bytes-r.before.Bytes)>>20))
	}
	for _, what := range left {
		r.report.findings++
		fmt.Fprintf(r.out, "  left over: %s\n", what)
	}
	return nil
}

func (r *runner) open(t testing.TB) error {
	ctx, o := t.Context(), r.options
	programs := make([]string, 1, 2)
	var err error
	if programs[0], err = o.build(ctx, t.TempDir()); err != nil {
		return err
	}
	if o.other != "" {
		other, err := filepath.Abs(o.other)
		if err != nil {
			return err
		}
		programs = append(programs, other)
	}
	var log io.Writer
	if o.verbose {
		log = os.Stderr
	}
	r.profile, r.timeline = profiles()[o.profile], timeline.New(log)
	dice := rand.New(rand.NewPCG(o.seed, 1))
	if r.stage, err = stage.Open(t, stage.Config{Programs: programs, Replicas: o.replicas, Servers: o.servers,
		Channels: r.profile.channels, Optional: optional, CatchUp: r.profile.rereads(), Scripts: r.profile.scripts(), Jobs: len(r.profile.errands) > 0,
		Standby: r.profile.standby, Synced: r.profile.synced, Dice: dice}); err != nil {
		return err
	}
	r.readings()
	r.scene = &fault.Scene{T: t, Stage: r.stage, Timeline: r.timeline, Dice: dice, Harvest: r.harvest, Purged: map[string]uint64{}}
	for name := range r.streams {
		r.scene.Streams = append(r.scene.Streams, name)
	}
	if r.deck, err = fault.Choose(o.kinds(), o.servers); err != nil {
		return err
	}
	return r.begin(t)
}

// begin makes the ledger and reads what is there before it.
func (r *runner) begin(t testing.TB) error {
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, r.stage.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, ledger.Schema+";"+errand.Schema); err != nil {
		return err
	}
	sessions := 4
	if r.profile.standby {
		sessions, r.oracle = 1, &ledger.Table{}
	} else if r.oracle, err = ledger.NewOracle(ctx, conn); err != nil {
		return err
	}
	for name := range r.streams {
		if _, err := r.harvest(ctx, name); err != nil {
			return err
		}
		r.streams[name].items = nil
	}
	r.writers = &ledger.Writers{URL: r.stage.URL, Channels: r.profile.writtenTo(), Rate: r.options.rate, Sessions: sessions, Seed: r.options.seed, Prepared: !r.profile.standby}
	r.scene.Pause = r.writers.Pause
	c, err := client.New(r.stage.Conn, client.Options{JetStream: r.stage.JS, Patience: patience})
	if err != nil {
		return err
	}
	r.errands = &errand.Errands{Client: c, JS: r.stage.JS, Kinds: r.profile.errands, Seed: r.options.seed}
	if sizes := r.profile.of(stage.Core); len(sizes) > 0 {
		if r.core, err = harvest.Subscribe(r.stage.NATSURL(), r.stage.Conn.Opts.Name, "pgbridge", sizes); err != nil {
			return err
		}
		t.Cleanup(r.core.Close)
	}
	return r.openReaders(t)
}

func (r *runner) readings() {
	r.streams = map[string]*reading{}
	for name, kind := range map[string]stage.Channel{eventStream: stage.Stream, durableStream: stage.Durable} {
		if sizes := r.profile.of(kind); len(sizes) > 0 {
			r.streams[name] = &reading{kind: kind, sizes: sizes}
		}
	}
}

// harvest reads what a stream has more, and tells up to where it was read.
func (r *runner) harvest(ctx context.Context, name string) (uint64, error) {
	s := r.streams[name]
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		// An answer can be lost when a leader changes: each attempt has a limit of its own.
		once, end := context.WithTimeout(ctx, attemptLimit)
		items, err := harvest.Stream(once, r.stage.JS, name, s.after, s.sizes)
		end()
		if name == durableStream {
			r.readers.stored.Add(items)
		}
		for _, i := range items {
			if s.after = i.Seq; optional[i.Channel] == "" {
				s.items = append(s.items, i)
			}
		}
		if err == nil {
			return s.after, nil
		}
		if !wait.For(ctx, settleEvery) {
			return s.after, err
		}
	}
}
