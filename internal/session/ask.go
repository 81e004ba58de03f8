package session

import (
	"context"
	"slices"
)

// Ask executes one statement of our own, which returns so many columns, outside a
// transaction, on a session that is clean, and has read take its result.
func (s *Session) Ask(ctx context.Context, columns int, sql string, values [][]byte, read func(*Result) error) error {
	s.Clean(ctx)
	p := Pipeline{Session: s}
	p.Open(ctx)
	defer p.Close()
	p.Show(columns, sql, values...)
	return p.Sync(func(step Step, result any) error {
		if r, ok := result.(*Result); ok && step.Kind == StepShow {
			return read(r)
		}
		return nil
	})
}

// Change executes one statement of our own that writes, in a transaction of its own, which
// may whatever those of the login's are like, and returns how many rows it has changed. The
// session must be outside a transaction.
func (s *Session) Change(ctx context.Context, sql string, values [][]byte) (changed int64, err error) {
	s.Clean(ctx)
	p := Pipeline{Session: s}
	p.Open(ctx)
	p.Own(StepOwn, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	p.Show(0, sql, values...)
	p.Own(StepCommit, "COMMIT")
	err = p.Sync(func(step Step, result any) error {
		if r, ok := result.(*Result); ok && step.Kind == StepShow {
			tag, err := r.Close()
			changed = tag.RowsAffected()
			return err
		}
		return nil
	})
	p.Close()
	if err != nil && !s.Lost() {
		s.Rollback(ctx)
	}
	return changed, err
}

// AskRow is Ask for the first row of the result; nil means that there is none.
func (s *Session) AskRow(ctx context.Context, columns int, sql string, values [][]byte) (row [][]byte, err error) {
	err = s.Ask(ctx, columns, sql, values, func(r *Result) error {
		if r.NextRow() {
			for _, v := range r.Values() {
				row = append(row, slices.Clone(v))
			}
		}
		return nil
	})
	return row, err
}

// isolationSQL shows the level of transactions that say nothing of it.
const isolationSQL = `SELECT pg_catalog.current_setting('default_transaction_isolation')`

// Isolation is the isolation level of transactions that say nothing of it, which the
// login or the database can have been given. It costs a round trip.
func (s *Session) Isolation(ctx context.Context) (level string, err error) {
	err = s.Ask(ctx, 1, isolationSQL, nil, func(r *Result) error {
		if r.NextRow() {
			level = string(r.Values()[0])
		}
		return nil
	})
	return level, err
}
