package session

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// Check makes the transaction fail if tables or types are no longer what they were
// when the script was prepared. It has to come after the statements: they have
// locked their tables, so what it finds holds until COMMIT.
func (p *Pipeline) Check(all *Prepared) {
	for i, sentinel := range all.schema.sentinels {
		var values [][]byte
		if i == 0 {
			values = all.schema.values
		}
		p.run(Step{Kind: stepCheck}, sentinel.Name, values, false)
	}
}

// CheckFailed reports whether an error is that of [Pipeline.Check].
func CheckFailed(err error) bool {
	var at *StepError
	return errors.As(err, &at) && at.Step.Kind == stepCheck && Reported(err)
}

// depend prepares the sentinels of what was described, in the transaction in which
// that happened, and ends it.
func (s *Session) depend(ctx context.Context, c *schema, tables []relation, described []*pgconn.StatementDescription) error {
	defer s.Rollback(ctx)
	var types []uint32
	c.last = -1
	for i, d := range described {
		before := len(types)
		types = appendUserTypes(types, d)
		if len(types) > before || len(d.ParamOIDs) > 0 && len(tables) > 0 {
			c.last = i
		}
	}
	if c.last < 0 {
		return nil
	}
	err := s.watch(ctx, c, tables, types)
	if CheckFailed(err) { // the role may not see what the statements do
		s.drop(c.sentinels)
		c.sentinels, c.last, c.unwatched = nil, -1, true
		return nil
	}
	return err
}

// watch prepares the sentinels.
func (s *Session) watch(ctx context.Context, c *schema, tables []relation, types []uint32) error {
	p := Pipeline{Session: s}
	p.Open(ctx)
	defer p.Close()
	if len(types) > 0 {
		s.flush() // names can have changed since they were looked up
		p.Show(2, typesSQL, oidArray(types))
	}
	for _, sql := range sentinels(tables, len(types) > 0) {
		p.prepare(Step{Kind: stepCheck, name: s.newName()}, sql)
	}
	p.Own(StepOwn, "ROLLBACK") // prepared statements stay
	return p.Sync(func(step Step, result any) error {
		switch r := result.(type) {
		case *pgconn.StatementDescription:
			r.Name = step.name
			c.sentinels = append(c.sentinels, r)
		case *Result:
			if step.Kind == StepShow && r.NextRow() {
				c.values = [][]byte{slices.Clone(r.Values()[0]), slices.Clone(r.Values()[1])}
			}
		}
		return nil
	})
}
