package session

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
)

// Describe finds the types of a script's statement that was described by
// PostgreSQL. It may have to look them up, with the unnamed statement: see
// [Session.Lookups].
func (s *Session) Describe(ctx context.Context, script *Script, i int, statement *pgconn.StatementDescription) (*Description, error) {
	if time.Since(s.flushed) > maxAge/2 {
		s.flush()
	}
	d := &Description{Statement: statement, made: time.Now()}
	var err error
	if d.Params, err = s.catalog.Types(ctx, s.lookup, statement.ParamOIDs); err != nil {
		return nil, fmt.Errorf("look up parameter types: %w", err)
	}
	if statement.Fields != nil { // they can be none: SELECT FROM t
		if d.Columns, err = s.catalog.Columns(ctx, s.lookup, statement.Fields); err != nil {
			return nil, fmt.Errorf("look up column types: %w", err)
		}
	}
	d.Rowless = d.Columns == nil && !script.fetches[i]
	return d, nil
}

// DescribeAnew is Describe for a statement that no sentinel watches: types of users may
// be called otherwise by now.
func (s *Session) DescribeAnew(ctx context.Context, script *Script, i int, statement *pgconn.StatementDescription) (*Description, error) {
	if len(appendUserTypes(nil, statement)) > 0 {
		s.flush()
	}
	return s.Describe(ctx, script, i, statement)
}

// flush forgets what types are called, which can have changed.
func (s *Session) flush() {
	s.catalog.Flush()
	s.flushed = time.Now()
}

func (s *Session) lookup(ctx context.Context, oids []uint32) ([]rows.TypeRow, error) {
	s.lookups++
	s.Settle(ctx)
	return rows.LookupOn(s.Conn)(ctx, oids)
}

// Lookups is how often types were looked up so far.
func (s *Session) Lookups() int { return s.lookups }

// Columns describes a result by its fields. It may ask PostgreSQL, so the
// connection must be free; while rows are under way use [Session.Known].
func (s *Session) Columns(ctx context.Context, fields []pgconn.FieldDescription) (*rows.Columns, error) {
	return s.catalog.Columns(ctx, s.lookup, fields)
}

// Knows reports whether all types of a result are known.
func (s *Session) Knows(fields []pgconn.FieldDescription) bool { return s.catalog.Knows(fields) }

// Known describes a result that could not be foreseen by the types that are
// known already; those that are not become text.
func (s *Session) Known(fields []pgconn.FieldDescription) *rows.Columns {
	none := func(context.Context, []uint32) ([]rows.TypeRow, error) { return nil, nil }
	columns, _ := s.catalog.Columns(context.Background(), none, fields) // no lookup, no error
	return columns
}
