package rows

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

const schema = `
	CREATE DOMAIN amount AS numeric;
	CREATE DOMAIN price AS amount;
	CREATE DOMAIN doc AS jsonb;
	CREATE DOMAIN tags AS text[];
	CREATE DOMAIN cells AS int8[];
	CREATE DOMAIN frame AS box;
	CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"\', '{happy}', 'NULL', '');
	CREATE TYPE pair AS (a int, b text);
	CREATE TYPE span AS RANGE (subtype = float8);`

// session is a connection as pgbridge sets it up, in a database with schema.
type session struct {
	t       testing.TB
	conn    *pgconn.PgConn
	catalog *Catalog
}

func newSession(t testing.TB) *session {
	t.Helper()
	url := testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, url, schema)
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams = map[string]string{"client_encoding": "UTF8", "DateStyle": "ISO", "TimeZone": "UTC",
		"IntervalStyle": "iso_8601", "bytea_output": "hex"}
	conn, err := pgconn.ConnectConfig(deadline(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return &session{t, conn, NewCatalog()}
}

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// failer is a test or a rapid test.
type failer interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

// query runs one statement and returns its result and columns.
func (s *session) query(t failer, sql string, params ...[]byte) (*pgconn.Result, *Columns) {
	t.Helper()
	result := s.conn.ExecParams(s.t.Context(), sql, params, nil, nil, nil).Read()
	if result.Err != nil {
		t.Fatalf("%s with %q: %v", sql, params, result.Err)
	}
	columns, err := s.catalog.Columns(s.t.Context(), LookupOn(s.conn), result.FieldDescriptions)
	if err != nil {
		t.Fatalf("columns of %s: %v", sql, err)
	}
	return result, columns
}

// value returns the only value of a query, as PostgreSQL's text.
func (s *session) value(t failer, sql string, params ...[]byte) string {
	t.Helper()
	result, _ := s.query(t, sql, params...)
	return string(result.Rows[0][0])
}

// paramType returns the type of the only parameter of a statement.
func (s *session) paramType(t failer, sql string) *Type {
	t.Helper()
	described, err := s.conn.Prepare(s.t.Context(), "", sql, nil)
	if err != nil {
		t.Fatalf("prepare %s: %v", sql, err)
	}
	types, err := s.catalog.Types(s.t.Context(), LookupOn(s.conn), described.ParamOIDs)
	if err != nil {
		t.Fatalf("types of %s: %v", sql, err)
	}
	return types[0]
}

func row(result *pgconn.Result, columns *Columns) string {
	return string(columns.AppendRow(nil, result.Rows[0]))
}
