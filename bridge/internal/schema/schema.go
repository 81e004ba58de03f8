// Package schema makes what durable channels need in the database: the
// functions pgbridge.notify, watch and unwatch, an empty publication, and the
// table that says how far the stream reaches. Doing it again changes nothing.
package schema

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/migration"
)

const (
	// Version is that of the schema which SQL makes.
	Version = 11
	// Needed is the oldest version that durable channels work with. What later ones have
	// more is of the functions alone.
	Needed = 2
	// Publication is the name of the empty publication.
	Publication = "pgbridge"
	// DefaultLimit is the payload limit for NATS's own default max_payload.
	DefaultLimit = 1<<20 - messageReserve
	// messageReserve is what a NATS message holds besides payload and headers of
	// the writer's: pgbridge's headers, and what an envelope adds.
	messageReserve = 8 << 10
	minLimit       = 1024
)

//go:embed schema.sql
var defaultSQL string

// Limit returns the payload limit for a NATS server's max_payload in bytes.
func Limit(maxPayload int64) int { return int(max(minLimit, min(maxPayload, 64<<20)-messageReserve)) }

// SQL returns the migration for a payload limit in bytes, as people may execute it;
// zero means DefaultLimit.
func SQL(limit int) string { return migration.SQL(statements(limit)) }

func statements(limit int) string {
	if limit == 0 {
		limit = DefaultLimit
	}
	return strings.Replace(defaultSQL, "'SELECT "+strconv.Itoa(DefaultLimit)+"'", "'SELECT "+strconv.Itoa(limit)+"'", 1)
}

// State is what a database has.
type State struct {
	Version int // of the schema; 0: none
	Limit   int // of payloads, in bytes
	// Writable says that the connection's login may keep how far the stream reaches.
	Writable bool
}

// ErrNewer says that a later pgbridge made the schema.
var ErrNewer = errors.New("the schema is of a later pgbridge")

// lookSQL reads the functions and calls none: somebody else could have made them.
const lookSQL = `SELECT v.prosrc, l.prosrc, COALESCE((SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege(session_user, c.oid, p))
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace, pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS p
		WHERE n.nspname OPERATOR(pg_catalog.=) 'pgbridge' AND c.relname OPERATOR(pg_catalog.=) 'position'), false)
	FROM pg_catalog.pg_proc v, pg_catalog.pg_proc l
	WHERE v.oid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure('pgbridge.durable_version()')
	AND l.oid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure('pgbridge.payload_limit()')`

// Look reads what the database has. The error is [migration.ErrStranger] where somebody
// else made the schema, or something in it, which would run with the rights of whoever
// uses it. It blocks until PostgreSQL has answered or ctx ends; the connection must be
// free.
func Look(ctx context.Context, conn *pgx.Conn) (State, error) {
	if err := migration.Look(ctx, conn); err != nil {
		return State{}, err
	}
	var version, limit string
	var s State
	err := conn.QueryRow(ctx, lookSQL).Scan(&version, &limit, &s.Writable)
	if errors.Is(err, pgx.ErrNoRows) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	if s.Version, err = constant(version); err == nil {
		s.Limit, err = constant(limit)
	}
	return s, err
}

// constant returns what a function whose body is SELECT and a number returns.
func constant(body string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(body, "SELECT "))
	if err != nil {
		return 0, fmt.Errorf("read the functions of the schema pgbridge: %w", err)
	}
	return n, nil
}

// Migrate makes the schema or brings it up to date, in one transaction. Where
// that is done already it needs no privilege. What somebody else made it refuses. A
// limit of zero leaves the one that is there. It blocks until PostgreSQL has answered or ctx ends; the
// connection must be free.
func Migrate(ctx context.Context, conn *pgx.Conn, limit int) error {
	have, err := Look(ctx, conn)
	if err != nil {
		return fmt.Errorf("look at the schema pgbridge: %w", err)
	}
	if have.Version > Version {
		return fmt.Errorf("schema pgbridge, version %d: %w", have.Version, ErrNewer)
	}
	if limit == 0 {
		limit = have.Limit
	}
	if have.Version == Version && have.Limit == limit {
		return nil
	}
	if err := migration.Run(ctx, conn, statements(limit)); err != nil {
		return fmt.Errorf("make the schema for durable channels: %w", err)
	}
	return nil
}
