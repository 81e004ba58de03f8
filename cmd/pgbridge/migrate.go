package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/txrunner"
)

type migrateCmd struct {
	configFlags
	Print    bool `help:"Print the SQL and do nothing."`
	DropSlot bool `help:"Drop the replication slot of durable channels, which keeps the write-ahead log while nobody reads it, and do nothing else."`
}

// Help shows examples.
func (migrateCmd) Help() string {
	return `Makes the schema pgbridge: the table that message ids and jobs need, and the
functions, the table and the empty publication that durable channels need. Doing it
again changes nothing. With --nats it also makes the streams of the configuration
and the buckets of the scripts that are missing there, for a serve and for clients
that may not.

Examples:

    pgbridge migrate -c pgbridge.yaml
    pgbridge migrate --postgres postgres://owner@localhost/app
    pgbridge migrate -c pgbridge.yaml --nats nats://admin@localhost:4222
    pgbridge migrate --print | psql app
    pgbridge migrate --drop-slot -c pgbridge.yaml   # before you leave durable channels`
}

// Run makes what is missing, or prints the SQL.
func (cmd migrateCmd) Run(ctx context.Context, p *process) error {
	if cmd.Print {
		_, err := fmt.Fprint(p.stdout, txrunner.MigrationSQL(), "\n", bridge.MigrationSQL())
		return err
	}
	c, err := cmd.sources(p).Load()
	if err != nil {
		return err
	}
	if cmd.DropSlot {
		return onDatabase(ctx, c, func(conn *pgx.Conn, settings *postgres.Settings) error { return dropSlot(ctx, c, conn, p) })
	}
	var maxPayload int64 // of NATS, where it is asked
	if cmd.NATS != "" {
		if maxPayload, err = payloadOf(c); err != nil {
			return err
		}
	}
	if err := migratePostgres(ctx, c, maxPayload, p); err != nil || cmd.NATS == "" {
		return err
	}
	return migrateNATS(ctx, c, p)
}

// onDatabase does something with a connection to the configured database.
func onDatabase(ctx context.Context, c *config.Config, do func(*pgx.Conn, *postgres.Settings) error) error {
	settings, err := postgres.Parse(c.Postgres.URL, c.PostgresOptions())
	if err != nil {
		return fmt.Errorf("postgres.url: %w", err)
	}
	conn, err := settings.Connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %s", settings.Describe(), postgres.Reason(err))
	}
	defer postgres.Close(ctx, conn)
	return do(conn, settings)
}

func migratePostgres(ctx context.Context, c *config.Config, maxPayload int64, p *process) error {
	return onDatabase(ctx, c, func(conn *pgx.Conn, settings *postgres.Settings) error {
		err := p.steps("schemas",
			func() error { return txrunner.Migrate(ctx, conn) },
			func() error { return bridge.Migrate(ctx, conn, maxPayload) })
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "pgbridge: %s has the schema pgbridge\n", settings.Describe())
		return nil
	})
}

// steps does one thing after the other, to the first error, and at a terminal shows how
// far it is.
func (p *process) steps(unit string, all ...func() error) error {
	bar := console.StartCount(p.stderr, int64(len(all)), unit)
	defer bar.Stop()
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
		bar.Add(1)
	}
	return nil
}

func dropSlot(ctx context.Context, c *config.Config, conn *pgx.Conn, p *process) error {
	dropped, err := bridge.DropSlot(ctx, conn, c.Prefix)
	switch {
	case err != nil:
		return err
	case dropped:
		fmt.Fprintln(p.stderr, "pgbridge: the replication slot is dropped")
	default:
		fmt.Fprintln(p.stderr, "pgbridge: there is no replication slot")
	}
	return nil
}

// payloadOf asks NATS how large a message may be.
func payloadOf(c *config.Config) (int64, error) {
	nc, err := natsconn.Once(c.NATS, c.NATSName+" migrate")
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	return nc.MaxPayload(), nil
}

// migrateLimit bounds making all streams.
const migrateLimit = 30 * time.Second

// migrateNATS makes the streams even where serve may not, and the buckets that
// scripts name.
func migrateNATS(ctx context.Context, c *config.Config, p *process) error {
	nc, err := natsconn.Once(c.NATS, c.NATSName+" migrate")
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, migrateLimit)
	defer cancel()
	c.Events.Create, c.Durable.Stream.Create, c.Jobs.Stream.Create, c.Jobs.Results.Create = true, true, true, true
	js, err := c.NATS.JetStream(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	events, runner := c.Bridge(), c.Runner()
	events.JetStream, runner.JetStream, runner.Requests = js, js, nc
	var failed []error // each kind of stream is made, whatever became of the others
	err = p.steps("kinds of streams",
		func() error { failed = append(failed, bridge.EnsureStream(ctx, nc, events)); return nil },
		func() error { failed = append(failed, bridge.EnsureDurableStream(ctx, nc, events)); return nil },
		func() error {
			failed = append(failed, txrunner.EnsureJobStreams(ctx, runner))
			return errors.Join(failed...)
		})
	if err != nil {
		return err
	}
	for _, w := range append(c.EventStreams(), c.JobStreams()...) {
		fmt.Fprintf(p.stderr, "pgbridge: %s has the stream %s\n", nc.ConnectedUrlRedacted(), w.Name)
	}
	buckets, err := txrunner.EnsureBuckets(ctx, runner)
	for _, bucket := range buckets {
		fmt.Fprintf(p.stderr, "pgbridge: %s has the bucket %s\n", nc.ConnectedUrlRedacted(), bucket)
	}
	return err
}
