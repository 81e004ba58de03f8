package durable

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// occupiedAfter is how long a replica that is gone may seem to read the slot: PostgreSQL
	// ends its session after 5 s.
	occupiedAfter = 10 * time.Second
	occupiedEvery = 5 * time.Second // it is looked who reads it
)

// occupied is a slot that somebody else reads, which anybody may who has REPLICATION. The
// zero value is one that nobody was seen to read.
type occupied struct {
	since  time.Time
	looked time.Time
}

const readerSQL = `SELECT COALESCE(s.active_pid, 0), COALESCE(a.usename::pg_catalog.text, ''), COALESCE(a.application_name, '')
	FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) s.active_pid
	WHERE s.slot_name OPERATOR(pg_catalog.=) $1::pg_catalog.name AND s.active`

// tell notes that the slot is read by somebody else, and has readiness name them where that
// lasts.
func (o *occupied) tell(ctx context.Context, s *session) error {
	now := time.Now()
	if o.since.IsZero() {
		o.since = now
	}
	if now.Sub(o.since) < occupiedAfter || now.Sub(o.looked) < occupiedEvery {
		return nil
	}
	o.looked = now
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	reader, err := readerOf(ctx, s.conn, s.slot)
	if err != nil || reader == "" { // it has just been left
		return err
	}
	s.keepsNothing() // whoever reads it may have it let go of anything
	s.Problem.Set(s.Log, fmt.Errorf("the replication slot %s is read by %s: end that session, unless it is another replica's", s.slot, reader))
	return nil
}

// readerOf names the session that reads a slot; empty: none does.
func readerOf(ctx context.Context, conn *pgx.Conn, slot string) (string, error) {
	var pid int
	var user, application string
	err := conn.QueryRow(ctx, readerSQL, slot).Scan(&pid, &user, &application)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look who reads the replication slot %s: %w", slot, err)
	}
	return fmt.Sprintf("backend %d, user %q, application %q", pid, strings.ToValidUTF8(user, "?"), strings.ToValidUTF8(application, "?")), nil
}
