// Package example puts the example's tables into a database, writes to one of them
// every so often, and takes them away again.
package example

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/postgres"
)

// Channel is the one on which the tables notify.
const Channel = "orders"

// DurableChannel is the one on which they send durable events, where they can.
const DurableChannel = "billing"

// Example is a schema of its own with tables for the example scripts, one of
// which notifies.
type Example struct {
	settings *postgres.Settings
	durable  bool
}

// In is the example in a database, where it is not yet.
func In(settings *postgres.Settings) *Example { return &Example{settings: settings} }

// SendDurably has each row that Write inserts sent as a durable event, too, in the
// same transaction. The database must have what durable channels need.
func (e *Example) SendDurably() { e.durable = true }

// createExample puts the example's tables into a schema of their own.
func createExample() string {
	return "CREATE SCHEMA pgbridge_example; SET search_path = pgbridge_example;\n" + examples.Schema()
}

const insertExample = `
INSERT INTO pgbridge_example.orders (customer, total)
SELECT (ARRAY['Ada', 'Grace', 'Edsger', 'Barbara'])[1 + floor(random() * 4)::int], (random() * 100)::numeric(10,2)`

// insertDurably is the same, with a durable event.
const insertDurably = "WITH made AS (" + insertExample + " RETURNING *) SELECT pgbridge.notify('" + DurableChannel + "', pg_catalog.row_to_json(made)::pg_catalog.text) FROM made"

// Create makes the schema. One that is there already is nobody's to replace.
func (e *Example) Create(ctx context.Context) error {
	err := e.exec(ctx, createExample())
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42P06" { // duplicate_schema
		return errors.New("create example: the schema pgbridge_example is there already, perhaps from a run that was killed: DROP SCHEMA pgbridge_example CASCADE")
	}
	if err != nil {
		return fmt.Errorf("create example in %s: %w", e.settings.Describe(), err)
	}
	return nil
}

// Drop removes the schema.
func (e *Example) Drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := e.exec(ctx, "DROP SCHEMA pgbridge_example CASCADE"); err != nil {
		return fmt.Errorf("drop example in %s: %w", e.settings.Describe(), err)
	}
	return nil
}

// exec runs statements on a connection of their own.
func (e *Example) exec(ctx context.Context, sql string) error {
	conn, err := e.settings.Connect(ctx)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	_, err = conn.Exec(ctx, sql)
	return err
}

// ConnString is url with the example's tables in reach.
func (e *Example) ConnString(url string) string {
	const param = "search_path=pgbridge_example,public"
	switch {
	case !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://"):
		return url + " " + param
	case strings.Contains(url, "?"):
		return url + "&" + param
	}
	return url + "?" + param
}

// Write inserts a row every so often until ctx ends. A database that is away
// for a while is no reason to stop: the bridge waits for it too.
func (e *Example) Write(ctx context.Context, every time.Duration) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			postgres.Close(ctx, conn)
		}
	}()
	insert := insertExample
	if e.durable {
		insert = insertDurably
	}
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		var err error
		if conn == nil || conn.IsClosed() {
			if conn, err = e.settings.Connect(ctx); err != nil {
				continue
			}
			// It names its tables with their schema, and nobody's operators are to be found.
			_, err = conn.Exec(ctx, "SET search_path = pg_catalog, pg_temp")
		}
		if err == nil {
			_, err = conn.Exec(ctx, insert)
		}
		if err != nil {
			postgres.Close(ctx, conn)
		}
	}
}
