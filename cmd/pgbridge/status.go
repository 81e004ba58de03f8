package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

type statusCmd struct {
	clientFlags
	Watch bool          `short:"w" help:"Show it again and again until Ctrl-C."`
	Every time.Duration `default:"2s" placeholder:"DURATION" help:"How often --watch does."`
	JSON  bool          `name:"json" help:"Print one JSON array a time."`
}

// Help shows examples.
func (statusCmd) Help() string {
	return `Asks every replica of the running pgbridge what it does: whether it publishes, why it
is not ready, what waits for NATS, and which pinned transactions are open. A
transaction's key opens nothing; its PID is that of its backend in
pg_stat_activity. Exits with 1 when nobody answers, or a replica has a problem.

Examples:

    pgbridge status
    pgbridge status --watch
    pgbridge status --json`
}

// Run shows the status once, or until a signal.
func (cmd statusCmd) Run(ctx context.Context, p *process) error {
	if cmd.Every <= 0 {
		return &usageError{errors.New("--every: want a positive duration")}
	}
	r, err := cmd.connect(p, "status", "")
	if err != nil {
		return err
	}
	defer r.close()
	if !cmd.Watch {
		return cmd.show(ctx, r, p.stdout)
	}
	return p.watch(ctx, cmd.Every, func(ctx context.Context, out io.Writer) error {
		var silent *silentError
		if err := cmd.show(ctx, r, out); !errors.As(err, &silent) {
			return err
		}
		return nil
	})
}

// show prints the status once.
func (cmd statusCmd) show(ctx context.Context, r *remote, out io.Writer) error {
	ctx, done := r.whileAllowed(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	replicas, err := r.Operator.Status(ctx)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("nobody answers on %s.status: no pgbridge is there, or NATS does not let it subscribe that", r.config.Prefix)
	case err != nil:
		return err
	case cmd.JSON:
		err = console.JSON(r.process.shown(out), replicas)
	default:
		err = console.Status(out, replicas, time.Now())
	}
	if err != nil {
		return fmt.Errorf("print the status: %w", err)
	}
	for _, one := range replicas {
		if len(one.Problems) > 0 {
			return &silentError{exitFailed}
		}
	}
	return nil
}
