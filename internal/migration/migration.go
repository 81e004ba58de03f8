// Package migration makes what pgbridge keeps in the schema pgbridge: all of it or
// nothing, with names that mean PostgreSQL's own objects and nobody else's, and not
// where a stranger made the schema or something in it.
package migration

import (
	"context"
	_ "embed"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

const (
	begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\nSET LOCAL search_path = pg_catalog, pg_temp;\n\n"
	end   = "\nCOMMIT;\n"

	// lockSQL has one of several that migrate at once wait for the other, which has done
	// in a moment. Anybody may hold the lock for ever, so it goes on without it then: two
	// that get in each other's way fail, and change nothing. Nor does it wait for ever for
	// what somebody else is about to make under the name of the schema.
	lockSQL = `DO $pgbridge$
BEGIN
    PERFORM pg_catalog.set_config('lock_timeout', '3s', true);
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgbridge.migrate'));
EXCEPTION WHEN lock_not_available THEN
END
$pgbridge$;
SET LOCAL lock_timeout = '1min';
`

	createSchema = "CREATE SCHEMA IF NOT EXISTS pgbridge;\n"
)

//go:embed guard.sql
var guard string

// guardSQL ends a migration where something belongs to somebody who is not trusted.
func guardSQL() string { return strings.Replace(guard, "@of_strangers@", postgres.OfStrangersSQL, 1) }

// SQL returns the statements of a migration as people may execute them, in one
// transaction.
func SQL(statements string) string { return begin + guardSQL() + "\n" + statements + end }

// Run executes a migration. The error is [ErrStranger] where somebody else made what
// is there. It blocks until PostgreSQL has answered or ctx ends; the connection must
// be free.
func Run(ctx context.Context, conn *pgx.Conn, statements string) error {
	return execute(ctx, conn, begin+lockSQL+guardSQL()+statements+end)
}

// Look returns [ErrStranger] if somebody else made the schema pgbridge, or something
// in it. It changes nothing and needs no privilege.
func Look(ctx context.Context, conn *pgx.Conn) error {
	return execute(ctx, conn, begin+strings.TrimPrefix(guardSQL(), createSchema)+end)
}

// ErrStranger says that what is there was not made by anybody who is trusted.
var ErrStranger = errors.New("somebody else made it")

func execute(ctx context.Context, conn *pgx.Conn, sql string) error {
	err := postgres.Execute(ctx, conn.PgConn(), sql)
	if err == nil {
		return nil
	}
	if !conn.IsClosed() {
		_ = postgres.Execute(ctx, conn.PgConn(), "ROLLBACK") // the first error counts
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "42710" && strings.Contains(refused.Message, " belongs to ") {
		return errors.Join(ErrStranger, err)
	}
	return err
}
