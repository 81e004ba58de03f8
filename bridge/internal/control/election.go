package control

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"
)

const contendSQL = `SELECT CASE WHEN $1 THEN pg_try_advisory_lock($2) ELSE false END, pg_notification_queue_usage()`

// LockKey is the key of the advisory lock that the publishing replica with this
// prefix holds.
func LockKey(prefix string) int64 {
	h := fnv.New64a()
	h.Write([]byte("pgbridge publishes " + prefix))
	return int64(h.Sum64())
}

// giveUp gives the lock to another replica, if one offers to publish.
func (s *session) giveUp(ctx context.Context) (err error) {
	if s.released, err = s.others(ctx, candidates); s.released {
		s.Log.Warn("gave up publishing, NATS does not answer")
	}
	return err
}

// mayContend leaves the lock to a replica that still has events queued when
// NATS comes back to all of them at once.
func (s *session) mayContend() bool {
	return !s.holds && s.agreed == s.server && s.natsSeen.After(s.natsLost) && (s.Seq.Active() || time.Since(s.natsLost) > controlTimeout)
}

// natsAnswers asks the server itself: a frozen link looks connected.
func (s *session) natsAnswers() bool {
	return s.Events.IsConnected() && s.Events.FlushTimeout(controlTimeout) == nil
}

func (s *session) contend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	sent := time.Now()
	var locked bool
	var usage float64
	if !s.holds {
		s.agrees(ctx)
	}
	try := s.mayContend() && !s.defers(ctx)
	err := s.conn.QueryRow(ctx, contendSQL, try, s.Key).Scan(&locked, &usage)
	if err != nil {
		return fmt.Errorf("contend for the publishing lock: %w", err)
	}
	s.sawUsage(usage)
	if s.holds || locked {
		s.Lease.Renew(sent)
	}
	if !s.holds && !locked { // whether it was wanted or not: only whoever has it is followed
		return s.lookAtHolder(ctx)
	}
	if locked {
		s.holds = true
		s.rival.Store(0) // who held it before does not count once it is lost again
		s.Foreign.Clear(s.Log)
		s.Log.Info("holds the publishing lock")
		s.Seq.Locked()
	}
	return nil
}

// agrees reports whether no other replica is known to be on another server under
// this prefix. A replica that is new here asks before it publishes anything.
func (s *session) agrees(ctx context.Context) bool {
	if s.agreed == s.server {
		return true
	}
	if time.Since(s.asked) < askEvery {
		return false
	}
	for id, server := range s.askKnown(ctx) {
		if server != "" && server != s.server {
			s.Apart.Set(s.Log, fmt.Errorf("replica %q serves the prefix from the server %q, this one reached %q: waiting until both lead to the same", id, server, s.server))
			s.asked = time.Now()
			s.Astray.Raise()
			return false
		}
	}
	s.agreed = s.server
	s.Apart.Clear(s.Log)
	return true
}
