package main

import (
	"context"
	"fmt"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/check"
)

type checkCmd struct {
	configFlags
	Offline bool   `help:"Look at the configuration and the scripts only, at no server."`
	Standby string `placeholder:"URL" help:"Look at this standby too: whether the slot of durable channels follows to it."`
}

// Help shows examples.
func (checkCmd) Help() string {
	return `Exits with 2 when the configuration is faulty and with 1 when a script is, or a
server does not allow what is asked for. PostgreSQL prepares the scripts and runs
none. Nothing is left on the servers and no event is sent.

Examples:

    pgbridge check -c pgbridge.yaml
    pgbridge check -c pgbridge.yaml --offline
    pgbridge check -c pgbridge.yaml --standby postgres://app@standby/app
    pgbridge check --postgres postgres://app@localhost/app --nats nats://localhost:4222`
}

// Run prints what works and what does not.
func (cmd checkCmd) Run(ctx context.Context, p *process) error {
	c, err := cmd.sources(p).Load()
	if err != nil {
		return err
	}
	made, failed := check.Run(ctx, c, cmd.Offline, cmd.Standby, p.stdout, p.stderr)
	if failed > 0 {
		fmt.Fprintf(p.stderr, "pgbridge: %d of %d checks failed\n", failed, made)
		return &silentError{exitFailed}
	}
	return nil
}
