package session

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// ServerMargin is how much longer PostgreSQL's own time limits are than ours, so
// that they decide only where this process cannot.
const ServerMargin = 5 * time.Second

// loginSQL finds the role that the login begins with, and the statement_timeout that it or
// the database has been given. PostgreSQL itself takes ours, which comes with the
// connection, for it.
// https://www.postgresql.org/docs/current/catalog-pg-db-role-setting.html
const loginSQL = `SELECT pg_catalog.current_setting('role'), COALESCE((SELECT pg_catalog.split_part(c, '=', 2) FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c
	WHERE c OPERATOR(pg_catalog.~~) 'statement_timeout=%'::pg_catalog.text
	AND (s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setdatabase OPERATOR(pg_catalog.=)
		(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))
	AND (s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR s.setrole OPERATOR(pg_catalog.=)
		(SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) session_user))
	ORDER BY s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid, s.setdatabase OPERATOR(pg_catalog.=) 0::pg_catalog.oid LIMIT 1), '')`

// readLogin asks for the role and the limit that the login has. Where PostgreSQL does not
// say there are none.
func (s *Session) readLogin(ctx context.Context) error {
	rows, err := postgres.ReadRows(ctx, s.Conn, loginSQL, 2)
	if len(rows) == 1 {
		s.role, s.limit = string(rows[0][0]), parseLimit(string(rows[0][1]))
	}
	if Reported(err) {
		return nil
	}
	return err
}

// parseLimit reads a duration as PostgreSQL's settings have it, in milliseconds
// where no unit is given. Zero means no limit, and so does what cannot be read.
// https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES
func parseLimit(text string) time.Duration {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || n < 0 {
		return 0
	}
	unit := map[string]time.Duration{
		"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second,
		"min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}[strings.TrimSpace(text[len(number):])]
	return time.Duration(n * float64(unit)).Round(time.Millisecond)
}

// Limited reports whether the login or the database has a time limit for statements.
func (s *Session) Limited() bool { return s.limit > 0 }

// Limit is PostgreSQL's limit of each statement of a request that has time until
// the deadline, in its words: a little more, so that this process decides where it
// can, but no more than the login or the database has.
func (s *Session) Limit(deadline time.Time) []byte {
	limit := time.Until(deadline) + ServerMargin
	if s.limit > 0 {
		limit = min(limit, s.limit)
	}
	return Milliseconds(limit)
}

// Limits are PostgreSQL's own, for when this process cannot keep its.
type Limits struct {
	Statement time.Duration // of one statement
	Idle      time.Duration // of an open transaction in which nothing happens
}

// Milliseconds writes a duration as PostgreSQL reads it, at least 1, as 0 would
// switch a limit off.
func Milliseconds(d time.Duration) []byte {
	return strconv.AppendInt(nil, max(1, d.Milliseconds()), 10)
}
