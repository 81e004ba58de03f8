package control

import (
	"context"
	"fmt"
	"time"
)

// oldestSQL looks at the oldest transaction that may write, this one's own at the
// latest. Whose transactions others may not see has no backend_type, or a state that is
// not told (PostgreSQL, pgstatfuncs.c, pg_stat_get_activity).
const oldestSQL = `SELECT min(a.xact_start), coalesce(bool_or(a.backend_type IS NULL OR a.state = 'disabled'), false), clock_timestamp()
	FROM pg_stat_activity a WHERE a.datname = current_database() AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'walsender')`

// shownWithin is how long a transaction may have its time before others see that it is
// there: PostgreSQL takes the one before it shows the other (xact.c, StartTransaction),
// and a busy machine may let the process wait between them.
const shownWithin = time.Second

// lookAtAges notes when the oldest transaction began.
func (s *session) lookAtAges(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	var oldest *time.Time
	var l look
	if err := s.conn.QueryRow(ctx, oldestSQL).Scan(&oldest, &l.hidden, &l.at); err != nil {
		return fmt.Errorf("look at the oldest transaction: %w", err)
	}
	if l.oldest = l.at; oldest != nil {
		l.oldest = *oldest
	}
	l.oldest = l.oldest.Add(-shownWithin)
	s.ages.note(l)
	return nil
}

// Begin is when the oldest transaction began that ran at a moment of PostgreSQL's clock,
// or earlier: where that was not looked at, or is not shown to this role, a minute.
func (c *Control) Begin(moment time.Time) time.Time { return c.ages.begin(moment) }
