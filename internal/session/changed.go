package session

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// Moved reports whether tables or types are no longer what they were when the
// script was prepared. The session must be outside a transaction. It costs a round
// trip.
func (s *Session) Moved(ctx context.Context, script *Script) bool {
	element := s.prepared[script]
	if element == nil {
		return false
	}
	all := element.Value.(*Prepared)
	if all.schema.last < 0 {
		return false
	}
	s.Clean(ctx)
	p := Pipeline{Session: s}
	p.Open(ctx)
	p.Own(StepOwn, describeBegin)
	p.role(script)
	p.Check(all)
	p.Own(StepOwn, "ROLLBACK")
	err := p.Sync(func(Step, any) error { return nil })
	p.Close()
	s.Rollback(ctx)
	return CheckFailed(err)
}

// Redescribed prepares the script anew and reports whether its statements take or
// return other types now. The session must be outside a transaction.
func (s *Session) Redescribed(ctx context.Context, script *Script) bool {
	element := s.prepared[script]
	if element == nil {
		return false
	}
	old := element.Value.(*Prepared).Statements
	s.Forget(script)
	now, _, err := s.Prepare(ctx, script)
	return err == nil && !slices.EqualFunc(old, now.Statements, sameTypes)
}

func sameTypes(a, b *Description) bool {
	return slices.Equal(a.Statement.ParamOIDs, b.Statement.ParamOIDs) && a.Rowless == b.Rowless &&
		slices.EqualFunc(a.Statement.Fields, b.Statement.Fields, func(a, b pgconn.FieldDescription) bool {
			return a.Name == b.Name && a.DataTypeOID == b.DataTypeOID
		})
}

// Refresh forgets what was known of a script after an error that may come from
// that.
func (s *Session) Refresh(ctx context.Context, script *Script, unknown bool) {
	s.flush()
	script.Unlearn()
	s.Forget(script)
	if unknown { // then no prepared statement is to be trusted
		s.Reset(ctx)
	}
}
