package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
)

// ModesSQL has every later transaction of a session be what PostgreSQL makes it where
// nobody has said otherwise: a role, a database or a server can make all of them
// read-only, or serializable and deferrable, which waits for others' transactions. It
// waits for nothing itself, alone in its transaction.
const ModesSQL = `SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE`

// OwnRoleSQL has a session act as the login, which can begin as another role.
const OwnRoleSQL = "SET ROLE NONE"

// SetModes executes [ModesSQL] and [OwnRoleSQL] on a new connection of our own. It blocks
// for a round trip.
func SetModes(ctx context.Context, conn *pgconn.PgConn) error {
	return Execute(ctx, conn, ModesSQL+"; "+OwnRoleSQL)
}

// LastingSQL takes the time limits off a session that lasts, and may be idle, wait for
// transactions of others or be in the middle of a large one for as long as that takes.
// A role, a database or a server has limits for sessions of another kind; which there
// are depends on its version. Its only row says how many.
const LastingSQL = `SELECT pg_catalog.count(pg_catalog.set_config(name, '0', false)) FROM pg_catalog.pg_settings
	WHERE name OPERATOR(pg_catalog.=) ANY ('{idle_session_timeout,lock_timeout,statement_timeout,transaction_timeout}'::pg_catalog.text[])`
