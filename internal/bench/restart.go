package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/wait"
)

// restartAim is how long pgbridge may take, from the first connection that
// PostgreSQL accepts again.
const restartAim = 150 * time.Millisecond

// restarts prints how soon events come again after PostgreSQL was restarted: from
// the first connection that anybody could make to the first event.
func (l *lab) restarts(ctx context.Context, o options) error {
	var took []float64
	for range o.rounds {
		d, err := l.restart(ctx)
		if err != nil {
			return err
		}
		took = append(took, float64(d.Milliseconds()))
	}
	l.report.add(&figure{What: "back after a restart of PostgreSQL, from its first accepted connection, median", Value: median(took), Unit: "ms", AtMost: float64(restartAim.Milliseconds())})
	l.report.add(&figure{What: fmt.Sprintf("the same, the slowest of %d", len(took)), Value: quantile(took, 1), Unit: "ms"})
	return nil
}

func (l *lab) restart(ctx context.Context) (_ time.Duration, err error) {
	c, err := l.start(ctx, false, core)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	sub, err := l.nc.SubscribeSync(subject)
	if err != nil {
		return 0, err
	}
	defer sub.Unsubscribe()
	if err := l.postgres.Stop(ctx); err != nil {
		return 0, err
	}
	var accepted time.Time
	var conn *pgx.Conn
	var first sync.WaitGroup
	first.Go(func() {
		for ctx.Err() == nil && conn == nil {
			conn, _ = pgx.Connect(ctx, l.url)
			accepted = time.Now()
			wait.For(ctx, time.Millisecond)
		}
	})
	if err := l.postgres.StartAgain(ctx); err != nil {
		return 0, err
	}
	first.Wait()
	if conn == nil {
		return 0, ctx.Err()
	}
	defer conn.Close(ctx)
	for time.Since(accepted) < time.Minute {
		if _, err := conn.Exec(ctx, "SELECT pg_notify($1, 'again')", channel); err != nil {
			return 0, err
		}
		if _, err := sub.NextMsg(2 * time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
			return time.Since(accepted), err
		}
	}
	return 0, errStalled
}
