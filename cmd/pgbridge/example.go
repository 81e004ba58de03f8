package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/postgres"
)

// example is a schema of its own with tables for the example scripts, one of
// which notifies.
type example struct {
	settings *postgres.Settings
}

const exampleChannel = "orders"

// createExample puts the example's tables into a schema of their own.
func createExample() string {
	return "CREATE SCHEMA pgbridge_example; SET search_path = pgbridge_example;\n" + examples.Schema()
}

const insertExample = `
INSERT INTO pgbridge_example.orders (customer, total)
SELECT (ARRAY['Ada', 'Grace', 'Edsger', 'Barbara'])[1 + floor(random() * 4)::int], (random() * 100)::numeric(10,2)`

func (e *example) create(ctx context.Context) error {
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

func (e *example) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := e.exec(ctx, "DROP SCHEMA pgbridge_example CASCADE"); err != nil {
		return fmt.Errorf("drop example in %s: %w", e.settings.Describe(), err)
	}
	return nil
}

// exec runs statements on a connection of their own.
func (e *example) exec(ctx context.Context, sql string) error {
	conn, err := connectPostgres(ctx, e.settings)
	if err != nil {
		return err
	}
	defer closePostgres(ctx, conn)
	_, err = conn.Exec(ctx, sql)
	return err
}

// connString is url with the example's tables in reach.
func (e *example) connString(url string) string {
	const param = "search_path=pgbridge_example,public"
	switch {
	case !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://"):
		return url + " " + param
	case strings.Contains(url, "?"):
		return url + "&" + param
	}
	return url + "?" + param
}

// write inserts a row every so often until ctx ends. A database that is away
// for a while is no reason to stop: the bridge waits for it too.
func (e *example) write(ctx context.Context, every time.Duration) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			closePostgres(ctx, conn)
		}
	}()
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
			if conn, err = connectPostgres(ctx, e.settings); err != nil {
				continue
			}
		}
		if _, err = conn.Exec(ctx, insertExample); err != nil {
			closePostgres(ctx, conn)
		}
	}
}

func notify(ctx context.Context, s *postgres.Settings, channel, payload string) error {
	conn, err := connectPostgres(ctx, s)
	if err != nil {
		return err
	}
	defer closePostgres(ctx, conn)
	_, err = conn.Exec(ctx, "SELECT pg_catalog.pg_notify($1, $2)", channel, payload)
	return err
}

// notifyLine is a shell command that notifies. The password of somebody
// else's database stays out of it: psql will ask.
func notifyLine(psql, url string, foreign bool, channel string) string {
	if lookUp("psql") != "" {
		psql = "psql"
	}
	if foreign {
		url = maskConnString(url)
	}
	if !regexp.MustCompile(`^[a-z_][a-z0-9_]*$`).MatchString(channel) {
		channel = pgx.Identifier{channel}.Sanitize()
	}
	sql := "NOTIFY " + channel + ", 'hello'"
	return shellWord(psql) + " " + shellWord(url) + " -c " + shellWord(sql)
}

// ownCommand is what a person types to start this program again.
func ownCommand() string {
	own, err := os.Executable()
	switch {
	case err != nil || own == lookUp("pgbridge"):
		return "pgbridge"
	case strings.Contains(own, string(filepath.Separator)+"go-build"):
		return "go run ./cmd/pgbridge"
	}
	if wd, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(wd, own); err == nil && !strings.HasPrefix(short, "..") {
			own = "." + string(filepath.Separator) + short
		}
	}
	return shellWord(own)
}
