package durable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/bridge/internal/schema"
	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	askTimeout = 10 * time.Second
	slotPoll   = 100 * time.Millisecond
	keepEvery  = time.Second // the position is written at most so often
)

var (
	errNotKept  = errors.New("the position is not kept")
	errReplaced = errors.New("another replica has made the replication slot anew")
	errSchema   = errors.New("the database lacks what durable channels need: run pgbridge migrate")
	errLevel    = errors.New("durable channels need wal_level = logical: set it and restart PostgreSQL")
)

// prepare makes sure that everything is there, and waits until nobody reads the
// slot.
func (s *session) prepare(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	state, err := schema.Look(limited, s.conn)
	if err != nil {
		return fmt.Errorf("look at the schema pgbridge: %w", err)
	}
	if state.Version < schema.Needed {
		return errSchema
	}
	var level string
	var database uint32
	const ask = `SELECT pg_catalog.current_setting('wal_level'), oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()`
	if err := s.conn.QueryRow(limited, ask).Scan(&level, &database); err != nil {
		return fmt.Errorf("ask for wal_level: %w", err)
	}
	if level != "logical" {
		return errLevel
	}
	s.slot = SlotName(s.Prefix, database)
	if err := errors.Join(s.measure(limited), s.lookAtKept(limited)); err != nil { // also while NATS is away
		return err
	}
	if _, err := s.log.open(limited, s.chosen.subjects); err != nil { // before a slot begins to keep the log
		return err
	}
	return s.free(ctx)
}

// free makes the slot where it is missing or lost, and waits until it is free.
func (s *session) free(ctx context.Context) error {
	var taken occupied
	for {
		state, err := lookAtSlot(ctx, s.conn, s.slot)
		switch {
		case err != nil:
			return err
		case !state.exists:
			return s.create(ctx, state)
		case !state.ours:
			return foreignSlot(s.slot)
		case !state.active && (state.lost || s.failure.of(state)):
			return s.replace(ctx, state)
		case !state.active:
			s.confirmed = state.confirmed
			return nil
		case !s.Lease():
			return errLease
		}
		if err := taken.tell(ctx, s); err != nil {
			return err
		}
		if !wait.For(ctx, slotPoll) {
			return ctx.Err()
		}
	}
}

func (s *session) replace(ctx context.Context, seen slot) error {
	s.keepsNothing()
	if err := oweGaps(ctx, s.conn, s.Prefix, api.ReasonSlotLost, s.slot, seen); err != nil {
		return err
	}
	dropped, err := dropSlotIf(ctx, s.conn, s.slot, seen)
	switch {
	case err != nil:
		return err
	case !dropped:
		return errReplaced
	}
	s.Log.Error("replication slot is lost and made anew", zap.String("slot", s.slot), zap.String("sqlstate", s.failure.state))
	s.failure = failure{}
	return s.create(ctx, slot{})
}

// create makes the slot, and the publication before it, which a slot that began
// without it would miss for ever.
func (s *session) create(ctx context.Context, seen slot) error {
	s.keepsNothing()
	there, err := publicationExists(ctx, s.conn, schema.Publication)
	if err != nil {
		return err
	}
	if !there {
		if _, err := s.conn.Exec(ctx, "CREATE PUBLICATION "+schema.Publication); err != nil {
			return fmt.Errorf("create the publication %s, which is missing: %w", schema.Publication, err)
		}
	}
	if err := oweGaps(ctx, s.conn, s.Prefix, api.ReasonSlotLost, s.slot, seen); err != nil {
		return err
	}
	s.stuck = stuck{} // it begins behind that
	s.Log.Info("creates the replication slot", zap.String("slot", s.slot))
	return s.createSlot(ctx)
}

// start begins to read.
func (s *session) start(ctx context.Context) (*wal.Reader, error) {
	config, err := s.Settings.ConnConfig(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := wal.Connect(ctx, &config.Config)
	if err != nil {
		return nil, fmt.Errorf("open a replication connection: %w", err)
	}
	defer conn.Close(ctx)
	if s.system, err = conn.Identify(ctx); err != nil {
		return nil, err
	}
	reader, err := conn.Start(ctx, wal.Config{
		Slot: s.slot, Publication: schema.Publication, Want: wanted, MaxContent: int(s.NC.MaxPayload()), Silence: s.silence,
	})
	if err != nil {
		return nil, fmt.Errorf("read the replication slot %s: %w", s.slot, err)
	}
	return reader, nil
}

// run reads and publishes until something ends it.
func (s *session) run(ctx context.Context, reader *wal.Reader, proved func()) error {
	group, ctx := errgroup.WithContext(ctx)
	reports, stop := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { return reader.Report(reports) })
	group.Go(func() error {
		defer stop()
		p, err := s.publisher(ctx, reader)
		if err != nil {
			return err
		}
		s.Log.Info("reads the replication slot", zap.String("slot", s.slot), zap.Duration("since_lease", time.Since(s.leased)), zap.Bool("skipping", p.until != nil), zap.Bool("comparing", p.compare != nil))
		if !s.stuck.in(&s.system) {
			s.Problem.Clear(s.Log)
			proved()
		}
		return s.transfer(ctx, reader, p, proved)
	})
	return group.Wait()
}

// transfer connects the reader with the publisher, and keeps the position.
func (s *session) transfer(ctx context.Context, reader *wal.Reader, p *publisher, proved func()) error {
	batches := make(chan []wal.Event, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.read(ctx, reader, batches, proved) })
	group.Go(func() error { return p.publish(ctx, batches) })
	group.Go(func() error { return s.keep(ctx, p) })
	err := group.Wait()
	if errors.Is(err, errNotKept) { // once is enough: it would be waited for again, and told of later
		return err
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
	defer cancel()
	if saved := s.save(limited, p, nil); saved != nil {
		s.Log.Warn("position not written at the end", zap.Error(saved)) // the stream's last message and the slot know it
	}
	return err
}

// publisher decides where to go on.
func (s *session) publisher(ctx context.Context, reader *wal.Reader) (*publisher, error) {
	limited, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	state, err := lookAtSlot(limited, s.conn, s.slot)
	if err != nil {
		return nil, err
	}
	t, err := s.log.tail(limited)
	if err != nil {
		return nil, err
	}
	saved, err := loadRow(limited, s.conn, s.Prefix)
	if err != nil {
		return nil, err
	}
	if t.sequence > 0 && t.id == "" {
		s.Log.Warn("the stream has a message that this replica did not publish", zap.String("stream", s.log.config.Name))
		if t, err = s.log.own(limited, t, saved); err != nil {
			return nil, err
		}
	}
	k := known{system: &s.system, confirmed: state.confirmed, tail: t, row: saved, channels: s.chosen.channels, accept: s.Accept}
	plan, err := resume(k)
	if err != nil {
		return nil, err
	}
	p := &publisher{
		Feed: s.Feed, routes: s.chosen, system: &s.system, log: s.log,
		opened: time.Now(), created: t.created, unsent: make(map[api.Reason]int), announced: wait.NewSignal(), keptMore: wait.NewSignal(), base: t.last, largest: t.largest, until: plan.until, covers: plan.covers,
		confirmation: confirmation{delay: s.ConfirmDelay, confirm: reader.Confirm},
	}
	if t.sequence == t.last {
		p.lastID = t.id
	}
	p.terms = terms(s.chosen, saved, &s.system, state.confirmed)
	p.carried = s.carry(p.terms, t.subjects)
	if plan.compare || s.comparing {
		if err := s.compare(ctx, p, t, state.confirmed); err != nil {
			return nil, err
		}
		plan.gaps = p.afterComparison(plan.gaps)
	}
	if err := s.announce(ctx, p, plan.gaps, saved, t, k.streamLost()); err != nil {
		return nil, err
	}
	s.keeps(s.chosen.channels)
	return p, nil
}

// compare reads what the stream has after the slot's position, which takes as long as
// there is much of it.
func (s *session) compare(ctx context.Context, p *publisher, t tail, confirmed wal.LSN) error {
	stored, err := s.log.since(ctx, t, func(q position) bool {
		return q.system == s.system.ID && s.system.Owner(q.commit) == q.timeline && q.commit < confirmed
	})
	if err != nil {
		return err
	}
	s.Log.Warn("compares the slot with the stream", zap.Int("events", len(stored)))
	p.until, p.compare = nil, compareWith(stored, &s.system)
	return nil
}

// announce hands the gaps to the publisher, once the database remembers which
// channels this replica has and what is owed to them: whoever comes next must
// know that before anything of it can be in the stream.
func (s *session) announce(ctx context.Context, p *publisher, gaps []gapFor, saved *row, t tail, lost bool) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := s.conn.QueryRow(ctx, "SELECT pg_catalog.clock_timestamp()").Scan(&p.clock); err != nil {
		return fmt.Errorf("ask for the time: %w", err)
	}
	slices.SortStableFunc(gaps, func(a, b gapFor) int { return cmp.Compare(a.after, b.after) })
	p.gaps = gaps
	next := row{created: t.created, sequence: t.last, id: t.id, committed: p.clock}
	if saved != nil {
		if !lost {
			next = *saved
		}
		next.committed = saved.committed
	}
	if next.id == "" {
		first := p.covers
		first.hash = gapHash("")
		next.id = first.id()
	}
	next.channels, next.owed, next.terms = p.routes.channels, p.owed(), p.terms
	if saved != nil && !lost && slices.Equal(saved.channels, next.channels) && maps.Equal(saved.owed, next.owed) && maps.Equal(saved.terms, next.terms) {
		return tryRow(ctx, s.conn, s.Prefix, &next)
	}
	return saveRow(ctx, s.conn, s.Prefix, &next, lost)
}

// keep writes the position of what was acknowledged, and looks at the lag. It
// notices a server that shuts down, which would otherwise wait for the reader.
func (s *session) keep(ctx context.Context, p *publisher) error {
	var last *row
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-p.announced:
		}
		limited, cancel := context.WithTimeout(ctx, keepTimeout)
		newest := p.stored.Load()
		err := s.save(limited, p, last)
		if err == nil {
			err = s.measure(limited)
		}
		cancel()
		if err != nil {
			return err
		}
		last = newest
	}
}

// save writes the newest position, unless it is the last that was written.
func (s *session) save(ctx context.Context, p *publisher, last *row) error {
	newest := p.stored.Load()
	if newest == nil || newest == last {
		return nil
	}
	if err := saveRow(ctx, s.conn, s.Prefix, newest, false); err != nil {
		return fmt.Errorf("%w: %w", errNotKept, err)
	}
	p.kept.Store(newest.sequence)
	p.keptMore.Raise()
	return nil
}
