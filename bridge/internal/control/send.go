package control

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
)

// sendMarker sends a marker, and waits as long as PostgreSQL does.
func (s *session) sendMarker(ctx context.Context) error {
	return s.send(ctx, s.Seq.Sending(s.holds))
}

func (s *session) send(ctx context.Context, m sequence.Marker) error {
	var usage float64
	sent := time.Now()
	err := s.outlast(ctx, func(ctx context.Context) error {
		return s.conn.QueryRow(ctx, sequence.MarkerSQL, s.Channel, m.Head()).Scan(nil, nil, &usage)
	})
	if err != nil {
		s.Wanted.Raise()
		return fmt.Errorf("send marker: %w", err)
	}
	s.marked = sent
	s.first = cmp.Or(s.first, m.Number())
	s.Seq.Sent(m)
	s.sawUsage(usage)
	s.Problem.Clear(s.Log)
	if s.holds {
		s.Lease.Renew(sent)
	}
	return nil
}
