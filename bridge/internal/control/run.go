package control

import (
	"context"
	"time"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Run keeps a session until ctx ends. Closing the session gives the lock back.
func (c *Control) Run(ctx context.Context) error {
	retry := wait.Retry{Backoff: wait.Backoff{First: 250 * time.Millisecond, Max: 5 * time.Second}, Burst: retryBurst}
	var worked time.Time
	for retry.Wait(ctx) {
		err := c.session(ctx, func() { worked = time.Now(); retry.Proved() })
		c.Seq.Unlocked()
		if ctx.Err() != nil {
			return nil
		}
		c.Problem.Set(c.Log, err)
		if postgres.Starting(err) || postgres.Down(err) && time.Since(worked) < restartWindow {
			retry.Soon(startingPause)
		}
	}
	return nil
}

// Probe opens a session as Run does, and closes it.
func (c *Control) Probe(ctx context.Context) error {
	conn, _, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	_, err = c.databaseOf(ctx, conn)
	return err
}

// session connects, then serves until the connection breaks, the lock is given
// back or ctx ends; only the first returns an error. It calls proved when a
// marker of its own came back, which takes all that a session is for.
func (c *Control) session(ctx context.Context, proved func()) error {
	conn, here, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if here.Database, err = c.databaseOf(ctx, conn); err != nil {
		return err
	}
	c.arrive(here)
	defer c.here.Store(nil)
	defer c.whole.Store(false)
	defer c.Failed()
	defer c.Lease.End() // before the lock is given back
	s := session{Control: c, conn: conn, proved: proved, server: here.Server(), backend: here.backend}
	defer s.remember()
	tick := time.NewTicker(controlTick)
	defer tick.Stop()
	due := time.NewTicker(dueTick)
	defer due.Stop()
	work, done := wait.Grace(ctx, controlTimeout) // a query that is cut off takes the last word with it
	defer done()
	for err = s.tick(work); err == nil && !s.released; {
		if ctx.Err() != nil {
			return s.farewell(ctx)
		}
		select {
		case <-ctx.Done():
		case <-c.Wanted:
			err = s.sendMarker(work)
		case <-c.Leave:
			err = errElsewhere
		case <-c.Doubt:
			err = s.tick(work)
		case <-tick.C:
			err = s.tick(work)
		case <-due.C:
			if s.Seq.Due() {
				err = s.sendMarker(work)
			}
		}
	}
	return err
}

// tick keeps the session alive, contends for the lock while NATS answers, and
// gives it back when NATS does not but answers another replica. While none
// has it the lock stays: a full queue keeps the listener from reading, so the
// marker that confirms a new lock could not arrive.
func (s *session) tick(ctx context.Context) error {
	if s.first > 0 && s.Seq.CameBack(s.first) {
		s.proved()
	}
	answers := s.natsAnswers()
	if answers {
		s.natsSeen = time.Now()
	} else {
		s.natsLost = time.Now()
	}
	if err := s.offerAll(ctx, answers); err != nil {
		return err
	}
	if s.holds && s.Seq.Undecided() {
		if err := s.decide(ctx); err != nil || s.released {
			return err
		}
	}
	if s.holds && time.Since(s.natsSeen) > giveUpAfter {
		if err := s.giveUp(ctx); err != nil || s.released {
			return err
		}
	}
	if err := s.contend(ctx); err != nil {
		return err
	}
	if s.CatchesUp.Load() && s.ages.due() {
		if err := s.lookAtAges(ctx); err != nil {
			return err
		}
	}
	if s.Seq.Owes() || s.Seq.Untold() || s.Seq.Asks() || time.Since(s.marked) >= markerInterval {
		return s.sendMarker(ctx)
	}
	return nil
}
