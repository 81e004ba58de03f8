package durable

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
)

// read gives the publisher what the slot gives.
func (s *session) read(ctx context.Context, reader *wal.Reader, batches chan<- []wal.Event, proved func()) error {
	waits := s.stuck.in(&s.system)
	err := reader.Run(ctx, func(batch []wal.Event) error {
		if waits && reader.Position() > s.stuck.at {
			waits, s.stuck = false, stuck{}
			s.Problem.Clear(s.Log)
			proved()
		}
		select {
		case batches <- batch:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) && !strings.HasPrefix(refused.Code, "57") { // else somebody has told it to end
		at := reader.Position()
		if waits {
			at = max(at, s.stuck.at)
		}
		s.stuck = stuck{s.system.ID, s.system.Timeline, at, true}
	}
	return err
}
