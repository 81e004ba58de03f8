package main

import (
	"context"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/visitors"
	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/txrunner"
)

// migrateDev makes what durable channels, jobs and visitors need.
func migrateDev(ctx context.Context, database *postgres.Settings) error {
	conn, err := database.Connect(ctx)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	if err := txrunner.Migrate(ctx, conn); err != nil {
		return err
	}
	if err := bridge.Migrate(ctx, conn, 0); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, visitors.Schema())
	return err
}

// writeDevScripts puts the example's scripts into a folder, and those of the visitors
// where they come.
func writeDevScripts(dir string, visited bool) error {
	if err := os.CopyFS(dir, examples.Scripts()); err != nil || !visited {
		return err
	}
	return os.CopyFS(dir, visitors.Scripts())
}

// devJobs is how jobs are taken; nil where nothing was made for them.
func devJobs(migrated bool) *txrunner.Jobs {
	if !migrated {
		return nil
	}
	return &txrunner.Jobs{Stream: txrunner.JobStream{Create: true}, Results: txrunner.ResultStream{Create: true}}
}

// visit has visitors come over a connection of their own until ctx ends.
func visit(ctx context.Context, connect func() (*nats.Conn, error)) error {
	nc, err := connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	return visitors.Over(nc).Run(ctx)
}
