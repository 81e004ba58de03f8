package durable

import (
	"context"
	"errors"
	"time"
)

// measure looks at the lag, for the metrics and for readiness.
func (s *session) measure(ctx context.Context) error {
	p, err := lookAtProgress(ctx, s.conn, s.slot)
	if err != nil || p == nil {
		return err
	}
	behind := s.clock.behind(p.end, p.confirmed, p.now)
	if oldest := s.oldest.Load(); oldest != 0 {
		behind = max(behind, p.now.Sub(time.UnixMicro(oldest)))
	}
	s.lag.Store(p.bytes())
	s.behind.Store(int64(behind))
	if late := errors.Join(p.waits(), s.Limits.exceeded(p.bytes(), behind)); late != nil {
		s.Late.Set(s.Log, late)
	} else {
		s.Late.Clear(s.Log)
	}
	return nil
}

// forgetLag is for a replica that does not read the slot.
func (f *Feed) forgetLag() {
	f.Late.Clear(f.Log)
	f.lag.Store(0)
	f.behind.Store(0)
	f.oldest.Store(0)
	f.clock = walClock{}
}

// Lag is how many bytes of the write-ahead log are not confirmed, and how long
// the oldest of them has been there, as far as this replica knows.
func (f *Feed) Lag() (bytes int64, behind time.Duration) {
	return f.lag.Load(), time.Duration(f.behind.Load())
}
