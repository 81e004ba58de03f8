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

// Migrate creates the schema pgbridge with the table for message ids, in one
// transaction, where they are missing. It blocks until PostgreSQL has answered
// or ctx ends. The connection must be free.
func Migrate(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.PgConn().Exec(ctx, migrationSQL).ReadAll(); err != nil {
		return fmt.Errorf("create the schema pgbridge: %w", err)
	}
	return nil
}
