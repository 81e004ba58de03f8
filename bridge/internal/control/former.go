package control

import (
	"context"
	"fmt"

	"go.uber.org/zap"
)

// A link that is lost on the client's side alone, as behind a firewall that forgot it,
// leaves a session that holds the lock until PostgreSQL ends it for being idle. Nobody
// else publishes meanwhile. The session that comes after it ends it.

const endFormerSQL = `SELECT pg_terminate_backend(a.pid) FROM pg_stat_get_activity($1::int4) a WHERE ` + beganSQL + ` = $2`

// is reports whether it is what holds the lock.
func (b backend) is(h holder) bool {
	return b.ours && h.began != "" && h.pid == int(b.pid) && h.began == b.began
}

// remember takes note of a session that may still hold the lock when it is lost.
func (s *session) remember() {
	if s.holds {
		s.former = s.backend
	}
}

// endFormer ends the session before, which is still there and has the lock. Until it is
// gone, this replica waits.
func (s *session) endFormer(ctx context.Context) error {
	s.Log.Info("ends its session before, which still holds the publishing lock", zap.Int32("backend", s.former.pid))
	if _, err := s.conn.Exec(ctx, endFormerSQL, s.former.pid, s.former.began); err != nil {
		return fmt.Errorf("end the session before: %w", err)
	}
	return nil
}
