package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
)

const takeoverRounds = 3 // of each fault

// durableTakeovers prints for how long a durable channel stands still when the replica
// that publishes dies or freezes while another stands by: from the signal to the next
// event, where the log that PostgreSQL has to read again is short.
func (l *lab) durableTakeovers(ctx context.Context) (err error) {
	publishing, err := l.replica(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, publishing.stop()) }()
	faults := []struct {
		what   string
		signal syscall.Signal
		limit  float64
	}{
		{"the death of the replica that publishes", syscall.SIGKILL, 2},
		{"its freeze", syscall.SIGSTOP, 10},
	}
	for _, fault := range faults {
		var took []float64
		for round := range takeoverRounds {
			next, err := l.replica(ctx, 1+round%2)
			if err != nil {
				return err
			}
			seconds, err := l.takeover(ctx, publishing, fault.signal)
			publishing = next
			if err != nil {
				return err
			}
			took = append(took, seconds)
		}
		l.report.add(&figure{What: "durable, from " + fault.what + " to the next event, median", Value: median(took), Unit: "s", AtMost: fault.limit})
	}
	return nil
}

// replica starts one more, and waits until it publishes or stands by.
func (l *lab) replica(ctx context.Context, number int) (*contender, error) {
	const holders = "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
	var before int
	if err := await(ctx, func() bool { return l.queryRow(ctx, holders, &before) == nil && before <= 1 }); err != nil {
		return nil, err // the sessions of one that was ended go on for a moment
	}
	file := filepath.Join(l.dir, fmt.Sprintf("replica%d.yaml", number))
	return l.launchFile(file, l.url, "http: \"off\"\nlog: {level: warn}\n"+durableConfig, func() error {
		if before == 0 {
			return l.awaitEvent(ctx)
		}
		return await(ctx, func() bool {
			var now int
			return l.queryRow(ctx, holders, &now) == nil && now > before
		})
	})
}

// takeover ends one replica, and returns after how many seconds an event came that was
// sent then.
func (l *lab) takeover(ctx context.Context, publishing *contender, signal syscall.Signal) (seconds float64, err error) {
	conn, err := pgx.Connect(ctx, l.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	sub, err := l.nc.SubscribeSync("pgbridge.event." + durableChannel)
	if err != nil {
		return 0, err
	}
	defer sub.Unsubscribe()
	if _, err := lateness(ctx, conn, sub, "SELECT pgbridge.notify($1, $2::text)", durableChannel, "before"); err != nil {
		return 0, err
	}
	began := time.Now()
	defer func() {
		_ = publishing.command.Process.Kill()
		_ = publishing.command.Wait() // it was killed
	}()
	if err := publishing.command.Process.Signal(signal); err != nil {
		return 0, err
	}
	if _, err := conn.Exec(ctx, "SELECT pgbridge.notify($1, 'after'::text)", durableChannel); err != nil {
		return 0, err
	}
	for {
		m, err := sub.NextMsg(time.Minute)
		if errors.Is(err, nats.ErrTimeout) {
			return 0, errStalled
		}
		if err != nil {
			return 0, err
		}
		if string(m.Data) == "after" {
			return time.Since(began).Seconds(), nil
		}
	}
}
