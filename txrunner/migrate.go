package txrunner

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed migrate.sql
var migrationSQL string

// MigrationSQL returns what [Migrate] executes, for people who would rather do
// it themselves. Executing it again changes nothing.
func MigrationSQL() string { return migrationSQL }

// lockSQL has one of several that migrate at once wait for the other.
const lockSQL = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgbridge.migrate'));"

// Migrate creates the schema pgbridge with the table for message ids, in one
// transaction, where they are missing; where they are there it needs no
// privilege. It blocks until PostgreSQL has answered or ctx ends. The connection
// must be free.
func Migrate(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass('pgbridge.message_id') IS NOT NULL").Scan(&there); err != nil {
		return fmt.Errorf("look for the schema pgbridge: %w", err)
	}
	if there {
		return nil
	}
	if _, err := conn.PgConn().Exec(ctx, lockSQL+migrationSQL).ReadAll(); err != nil {
		return fmt.Errorf("create the schema pgbridge: %w", err)
	}
	return nil
}
