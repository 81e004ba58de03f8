package stage

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Replay listens to a channel for a while and sends each notification that others
// sent there once more.
func (s *Stage) Replay(ctx context.Context, channel string, length time.Duration) error {
	return s.onConnection(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return err
		}
		until, cancel := context.WithTimeout(ctx, length)
		defer cancel()
		var heard []string
		for {
			n, err := conn.WaitForNotification(until)
			if err != nil {
				break // the time is over, or PostgreSQL went away
			}
			heard = append(heard, n.Payload)
		}
		for _, payload := range heard {
			if err := s.Notify(ctx, channel, payload); err != nil {
				return err
			}
		}
		return nil
	})
}

// Notify sends a notification on a connection of its own.
func (s *Stage) Notify(ctx context.Context, channel, payload string) error {
	return s.onConnection(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_notify($1, $2)", channel, payload)
		return err
	})
}
