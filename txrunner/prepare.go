package txrunner

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
)

// prepared is a script that a connection has prepared: its first statements,
// up to one that needs what the statements before it do.
type prepared struct {
	program    *program
	statements []*description
	stopped    error // why not all that could be; nil: they are, or a COPY follows
}

// prepare returns what the connection has prepared of a script; the first time
// it costs a round trip, or one more where types have to be looked up. An error
// is the first statement's, or the connection is lost.
func (s *session) prepare(ctx context.Context, p *program) (*prepared, error) {
	if element := s.prepared[p]; element != nil {
		s.recent.MoveToFront(element)
		return element.Value.(*prepared), nil
	}
	described, stopped, err := s.describeAll(ctx, p)
	if err != nil {
		return nil, err
	}
	all := &prepared{program: p, stopped: stopped}
	for i, statement := range described {
		d, err := s.describe(ctx, statement)
		if err != nil {
			s.drop(described)
			return nil, err
		}
		if d.rowless = d.columns == nil && !p.fetches[i]; d.rowless {
			statement.Fields = noRows()
		}
		all.statements = append(all.statements, d)
	}
	s.remember(all)
	return all, nil
}

// describeAll prepares as many of a script's statements as can be, under the
// script's role: it decides which schemas are seen. It returns why it stopped
// before the end.
func (s *session) describeAll(ctx context.Context, p *program) (described []*pgconn.StatementDescription, stopped, err error) {
	f := flow{session: s}
	f.open(ctx)
	f.neutral()
	f.free(s.unused)
	f.own(stepOwn, "BEGIN")
	if p.Settings.Role != "" {
		f.own(stepOwn, roleSQL, []byte(p.Settings.Role))
	}
	for i := range p.Statements[:p.foreseeable.Load()] {
		if p.Statements[i].Copy != nil {
			break
		}
		f.describe(i, s.newName(), p.Statements[i].SQL)
	}
	f.own(stepOwn, "ROLLBACK") // prepared statements stay
	err = f.sync(func(step step, result any) error {
		if d, ok := result.(*pgconn.StatementDescription); ok {
			d.Name, d.SQL = step.name, p.Statements[step.statement].SQL
			described = append(described, d)
		}
		return nil
	})
	f.close()
	s.rollback(ctx, ctx.Err() != nil)
	s.unused = nil
	var failed *stepError
	if errors.As(err, &failed) && failed.kind == stepDescribe && len(described) > 0 && reported(err) && !s.lost() {
		return described, err, nil // the others are parsed where they are run
	}
	if err != nil {
		s.drop(described)
		return nil, nil, err
	}
	return described, nil, nil
}

// describe finds the types of a prepared statement.
func (s *session) describe(ctx context.Context, statement *pgconn.StatementDescription) (*description, error) {
	d := &description{statement: statement}
	lookup := func(ctx context.Context, oids []uint32) ([]rows.TypeRow, error) {
		s.lookups++
		return rows.LookupOn(s.conn)(ctx, oids)
	}
	var err error
	if d.params, err = s.catalog.Types(ctx, lookup, statement.ParamOIDs); err != nil {
		return nil, fmt.Errorf("look up parameter types: %w", err)
	}
	if len(statement.Fields) > 0 {
		if d.columns, err = s.catalog.Columns(ctx, lookup, statement.Fields); err != nil {
			return nil, fmt.Errorf("look up column types: %w", err)
		}
	}
	return d, nil
}

// undescribed describes a result that could not be foreseen, by the types that
// are known: there is no asking while rows are under way.
func (s *session) undescribed(fields []pgconn.FieldDescription) *rows.Columns {
	none := func(context.Context, []uint32) ([]rows.TypeRow, error) { return nil, nil }
	columns, _ := s.catalog.Columns(context.Background(), none, fields) // no lookup, no error
	return columns
}

// remember keeps what was prepared, at the cost of what was not used for
// longest.
func (s *session) remember(p *prepared) {
	s.prepared[p.program] = s.recent.PushFront(p)
	if s.recent.Len() > maxPrepared {
		s.forgetProgram(s.recent.Back().Value.(*prepared).program)
	}
}

// forgetProgram makes the next use of a script prepare it again.
func (s *session) forgetProgram(p *program) {
	element := s.prepared[p]
	if element == nil {
		return
	}
	s.recent.Remove(element)
	delete(s.prepared, p)
	for _, d := range element.Value.(*prepared).statements {
		s.unused = append(s.unused, d.statement.Name)
	}
}

func (s *session) drop(described []*pgconn.StatementDescription) {
	for _, d := range described {
		s.unused = append(s.unused, d.Name)
	}
}
