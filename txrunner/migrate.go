package txrunner

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/migration"
)

//go:embed migrate.sql
var tableSQL string

// MigrationSQL returns what [Migrate] executes, for people who would rather do
// it themselves. Executing it again changes nothing.
func MigrationSQL() string { return migration.SQL(tableSQL) }

// Migrate creates the schema pgbridge with the table for message ids, in one
// transaction, where they are missing; where they are there it needs no
// privilege. It refuses what was made by somebody who is neither a superuser nor
// the database's owner, unless the connection's role belongs to that role. It blocks until PostgreSQL has answered or ctx ends. The connection
// must be free.
func Migrate(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass('pgbridge.message_id') IS NOT NULL").Scan(&there); err != nil {
		return fmt.Errorf("look for the schema pgbridge: %w", err)
	}
	if there {
		if err := migration.Look(ctx, conn); err != nil {
			return fmt.Errorf("look at the schema pgbridge: %w", err)
		}
		return nil
	}
	if err := migration.Run(ctx, conn, tableSQL); err != nil {
		return fmt.Errorf("create the schema pgbridge: %w", err)
	}
	return nil
}
