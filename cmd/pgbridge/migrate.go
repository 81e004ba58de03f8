package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/txrunner"
)

type migrateCmd struct {
	configFlags
	Print bool `help:"Print the SQL and do nothing."`
}

// Help shows examples.
func (migrateCmd) Help() string {
	return `Makes the schema pgbridge with the table that message ids and jobs need. Doing it
again changes nothing. With --nats it also makes the streams of the configuration
that are missing there, for a serve that may not.

Examples:

    pgbridge migrate -c pgbridge.yaml
    pgbridge migrate --postgres postgres://owner@localhost/app
    pgbridge migrate -c pgbridge.yaml --nats nats://admin@localhost:4222
    pgbridge migrate --print | psql app`
}

// Run makes what is missing, or prints the SQL.
func (cmd migrateCmd) Run(ctx context.Context, p *process) error {
	if cmd.Print {
		_, err := fmt.Fprint(p.stdout, txrunner.MigrationSQL())
		return err
	}
	c, err := cmd.sources(p).load()
	if err != nil {
		return err
	}
	if err := migratePostgres(ctx, c, p); err != nil {
		return err
	}
	if cmd.NATS == "" {
		return nil
	}
	return migrateNATS(ctx, c, p)
}

func migratePostgres(ctx context.Context, c *config, p *process) error {
	settings, err := postgres.Parse(c.Postgres.URL, c.postgresOptions())
	if err != nil {
		return fmt.Errorf("postgres.url: %w", err)
	}
	conn, err := connectPostgres(ctx, settings)
	if err != nil {
		return fmt.Errorf("connect to %s: %s", settings.Describe(), explain(err))
	}
	defer closePostgres(ctx, conn)
	if err := txrunner.Migrate(ctx, conn); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "pgbridge: %s has the schema pgbridge\n", settings.Describe())
	return nil
}

// migrateNATS makes the streams even where serve may not.
func migrateNATS(ctx context.Context, c *config, p *process) error {
	nc, err := natsconn.Once(c.NATS, c.NATSName+" migrate")
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	c.Events.Create, c.Jobs.Stream.Create, c.Jobs.Results.Create = true, true, true
	runner := c.runner()
	runner.Requests = nc
	err = errors.Join(bridge.EnsureStream(ctx, nc, c.bridge()), txrunner.EnsureJobStreams(ctx, runner))
	if err != nil {
		return err
	}
	for _, w := range append(c.eventStreams(), c.jobStreams()...) {
		fmt.Fprintf(p.stderr, "pgbridge: %s has the stream %s\n", nc.ConnectedUrlRedacted(), w.name)
	}
	return nil
}
