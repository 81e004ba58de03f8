package session

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// RoleSQL sets the role until the end of the transaction.
const RoleSQL = "SELECT pg_catalog.set_config('role', $1, true)"

// Prepare returns what the connection has prepared of a script, and whether it did
// so just now. The first time it costs two round trips, or one more where types have
// to be looked up. An error is the first statement's, or the connection is lost.
func (s *Session) Prepare(ctx context.Context, script *Script) (all *Prepared, fresh bool, err error) {
	s.Clean(ctx)
	if s.HasPrepared(script) {
		element := s.prepared[script]
		s.recent.MoveToFront(element)
		return element.Value.(*Prepared), false, nil
	}
	s.Forget(script)
	all = &Prepared{script: script, made: time.Now()}
	described, tables, err := s.describeAll(ctx, all)
	if err != nil {
		return nil, true, err
	}
	err = s.depend(ctx, &all.schema, tables, described)
	if err == nil {
		err = s.describeTypes(ctx, all, described)
	}
	if err != nil {
		s.drop(described)
		s.drop(all.schema.sentinels)
		return nil, true, err
	}
	s.remember(all)
	if all.schema.unwatched { // it is good for this time
		s.Forget(script)
	}
	return all, true, nil
}

// HasPrepared reports whether Prepare takes no round trip.
func (s *Session) HasPrepared(script *Script) bool {
	element := s.prepared[script]
	return element != nil && time.Since(element.Value.(*Prepared).made) < maxAge
}

// describeAll prepares as many of a script's statements as can be. It notes why it
// stopped before the end. The transaction in which it did so is still open.
func (s *Session) describeAll(ctx context.Context, all *Prepared) (described []*pgconn.StatementDescription, tables []relation, err error) {
	described, tables, err = s.describe(ctx, all, int(all.script.foreseeable.Load()))
	var failed *StepError
	if !errors.As(err, &failed) || failed.Step.Kind != StepDescribe || len(described) == 0 || !Reported(err) || s.Lost() {
		return described, tables, err
	}
	all.Stopped = err // the others are parsed where they are run
	s.drop(described)
	return s.describe(ctx, all, len(described))
}

// describe prepares the first n statements, under the script's role: it decides
// which schemas are seen. It returns the tables that they name, too. With an error
// it returns the statements before, and ends the transaction.
func (s *Session) describe(ctx context.Context, all *Prepared, n int) (described []*pgconn.StatementDescription, tables []relation, err error) {
	script := all.script
	p := Pipeline{Session: s}
	p.Open(ctx)
	p.Free(s.unused)
	p.Own(StepOwn, describeBegin)
	p.role(script)
	for i := range script.Statements[:n] {
		if script.Statements[i].Copy != nil || script.fetches[i] { // of a cursor that is not there yet
			break
		}
		p.Describe(i, s.newName(), script.Statements[i].SQL)
	}
	p.Show(5, lockedSQL)
	err = p.Sync(func(step Step, result any) error {
		switch r := result.(type) {
		case *pgconn.StatementDescription:
			r.Name, r.SQL = step.name, script.Statements[step.Statement].SQL
			described = append(described, r)
		case *Result:
			for step.Kind == StepShow && r.NextRow() {
				table, err := readRelation(r.Values())
				if err != nil {
					return err
				}
				if len(tables) == maxTables {
					return errTables
				}
				tables = append(tables, table)
			}
		}
		return nil
	})
	p.Close()
	s.unused = nil
	if err == nil {
		return described, tables, nil
	}
	s.Rollback(ctx)
	if s.Lost() || !Reported(err) || len(described) == 0 {
		s.drop(described)
		return nil, nil, err
	}
	return described, nil, err
}

// describeTypes completes what was described.
func (s *Session) describeTypes(ctx context.Context, all *Prepared, described []*pgconn.StatementDescription) error {
	for i, statement := range described {
		d, err := s.Describe(ctx, all.script, i, statement)
		if err != nil {
			return err
		}
		all.Statements = append(all.Statements, d)
	}
	return nil
}

// role sets the script's role until the end of the transaction.
func (p *Pipeline) role(script *Script) {
	if script.Settings.Role != "" {
		p.Own(StepOwn, RoleSQL, []byte(script.Settings.Role))
	}
}
