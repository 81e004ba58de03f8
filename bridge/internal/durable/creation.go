package durable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// creationPoll is how often it is looked at what a new slot waits for.
const creationPoll = 500 * time.Millisecond

// createSlot makes the slot. While that waits for other transactions readiness
// names the one that it waits for; a replica that loses the lease gives it up.
func (s *session) createSlot(ctx context.Context) error {
	watcher, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, watcher)
	creating, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	created := make(chan struct{})
	go func() {
		defer close(watched)
		s.watchCreation(ctx, watcher, created, cancel)
	}()
	err = createSlot(creating, s.conn, s.slot)
	close(created)
	<-watched
	if cause := context.Cause(creating); err != nil && cause != nil {
		return cause
	}
	return err
}

// watchCreation runs until the slot is there or nobody wants it any more.
func (s *session) watchCreation(ctx context.Context, conn *pgx.Conn, created <-chan struct{}, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(creationPoll)
	defer tick.Stop()
	for {
		select {
		case <-created:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !s.Lease() {
			giveUp(errLease)
			return
		}
		limited, cancel := context.WithTimeout(ctx, keepTimeout)
		what, err := blocking(limited, conn, s.conn.PgConn().PID())
		cancel()
		if err != nil && ctx.Err() == nil {
			giveUp(err)
			return
		}
		if what != "" {
			s.Problem.Set(s.Log, fmt.Errorf("the new replication slot %s waits for %s", s.slot, what))
		}
	}
}

// blockingSQL finds the transaction that a session waits for.
const blockingSQL = `SELECT COALESCE(
	(SELECT pg_catalog.format('the prepared transaction %L of database %I, prepared at %s: COMMIT PREPARED or ROLLBACK PREPARED ends it', p.gid, p.database, pg_catalog.date_trunc('second', p.prepared))
		FROM pg_catalog.pg_prepared_xacts p WHERE p.transaction = l.transactionid),
	(SELECT pg_catalog.format('the transaction of the user %I with the backend PID %s, which began at %s', a.usename, a.pid, pg_catalog.date_trunc('second', a.xact_start))
		FROM pg_catalog.pg_locks h JOIN pg_catalog.pg_stat_activity a ON a.pid = h.pid
		WHERE h.locktype = 'transactionid' AND h.transactionid = l.transactionid AND h.granted LIMIT 1),
	'the transaction ' || l.transactionid::text)
	FROM pg_catalog.pg_locks l WHERE l.pid = $1::int8::int4 AND l.locktype = 'transactionid' AND NOT l.granted LIMIT 1`

// blocking returns what a backend waits for; empty: nothing.
func blocking(ctx context.Context, conn *pgx.Conn, pid uint32) (what string, err error) {
	err = conn.QueryRow(ctx, blockingSQL, int64(pid)).Scan(&what)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at what the new replication slot waits for: %w", err)
	}
	return what, nil
}
