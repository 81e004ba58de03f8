package session

import (
	"context"
	"strings"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// Execute executes SQL that returns nothing of interest.
func (s *Session) Execute(ctx context.Context, sql string) error {
	s.Settle(ctx)
	return postgres.Execute(ctx, s.Conn, sql)
}

// Touch makes PostgreSQL's idle clock start anew.
func (s *Session) Touch(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	_ = s.Execute(ctx, nothing) // a lost connection shows by itself
}

// Rollback ends an open transaction, whether ctx has ended or not. Afterwards
// the connection is outside a transaction or closed.
func (s *Session) Rollback(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	s.Settle(ctx)
	if s.Conn.TxStatus() == 'I' || s.Execute(ctx, "ROLLBACK") == nil {
		return
	}
	s.Close()
}

// Spoil makes an open transaction a failed one, if it is not: a script that
// stopped in the middle is not to be committed by half.
func (s *Session) Spoil(ctx context.Context) {
	if s.Lost() || s.Conn.TxStatus() != 'T' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	_ = s.Execute(ctx, "ROLLBACK TO SAVEPOINT pgbridge_stopped_halfway") // there is none
	if s.Conn.TxStatus() == 'T' {
		s.Rollback(ctx)
	}
}

// restore sets the defaults where the server does not go back to them by itself.
func (s *Session) restore(ctx context.Context) error {
	if len(s.defaults) == 0 {
		return nil
	}
	return s.Execute(ctx, strings.Join(s.defaults, "; "))
}
