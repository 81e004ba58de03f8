package control

import (
	"context"
	"fmt"
)

// A replica that NATS answers holds the candidates' lock shared, and one that could
// also go on without a gap the next lock. Anybody may: a session counts only where its
// role is one that replicas log in as, or the lock would be left to somebody who only
// holds one of these.
const offersSQL = `SELECT EXISTS (SELECT ` + heldSQL + ` AND l.mode = 'ShareLock' AND l.pid <> pg_backend_pid() AND ` + replicaSQL + `)`

// Keys of what a replica offers, behind that of the publishing lock.
const (
	candidates = 1 // to publish
	wholes     = 2 // to publish without a gap
	learners   = 3 // the same, perhaps, once it knows who publishes
)

// offerAll tells a holder of the lock what this replica could do in its place.
func (s *session) offerAll(ctx context.Context, answers bool) error {
	if err := s.offer(ctx, candidates, answers, &s.offered.able); err != nil {
		return err
	}
	learns := answers && s.Seq.Learns()
	if learns { // before it does not offer the other any more
		if err := s.offer(ctx, learners, true, &s.offered.learns); err != nil {
			return err
		}
	}
	err := s.offer(ctx, wholes, answers && s.Seq.Whole(), &s.offered.whole)
	s.whole.Store(s.offered.whole)
	if err != nil || learns {
		return err
	}
	return s.offer(ctx, learners, false, &s.offered.learns)
}

// OffersAll reports whether this replica offers to publish without a gap.
func (c *Control) OffersAll() bool { return c.whole.Load() }

func (s *session) offer(ctx context.Context, which int64, able bool, offered *bool) error {
	if able == *offered {
		return nil
	}
	sql := "SELECT pg_advisory_unlock_shared($1)"
	if able {
		sql = "SELECT pg_try_advisory_lock_shared($1)" // anybody may have locked it
	}
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	var done bool
	if err := s.conn.QueryRow(ctx, sql, s.Key+which).Scan(&done); err != nil {
		return fmt.Errorf("offer to publish: %w", err)
	}
	*offered = able && done
	return nil
}

// others reports whether another replica offers that.
func (s *session) others(ctx context.Context, which int64) (offer bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	if err := s.conn.QueryRow(ctx, offersSQL, s.Key+which).Scan(&offer); err != nil {
		return false, fmt.Errorf("look for another replica: %w", err)
	}
	return offer, nil
}
