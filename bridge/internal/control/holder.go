package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	holderLookEvery = 2 * time.Second
	// silentAfter is how long the session that holds the lock may send no
	// marker: a replica sends one every markerInterval.
	silentAfter = markerInterval + 5*time.Second
)

const (
	// replicaSQL says whether a session is a replica's: it logs in as this one's role
	// or as a member of it. That a superuser may do anything makes it none.
	replicaSQL = `coalesce(a.usesysid = me.oid OR pg_has_role(a.usesysid, me.oid, 'MEMBER') AND NOT theirs.rolsuper, false)`
	// heldSQL finds the sessions that hold an advisory lock.
	heldSQL = `FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid LEFT JOIN pg_roles theirs ON theirs.oid = a.usesysid,
	(SELECT oid FROM pg_roles WHERE rolname = current_user) me
	WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
	AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND l.classid = ($1::bigint >> 32 & 4294967295)::oid AND l.objid = ($1::bigint & 4294967295)::oid`
	// holderSQL tells who has the publishing lock.
	holderSQL = `SELECT l.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), ` + replicaSQL + `,
	coalesce(` + beganSQL + `, '') ` + heldSQL
	// preparedSQL tells which prepared transaction has it. The lock says of one no more than
	// a number that only its other locks have, of which one is on the transaction itself.
	preparedSQL = `SELECT p.gid, p.owner::text FROM pg_locks x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
	WHERE x.pid IS NULL AND x.granted AND x.locktype = 'transactionid'
	AND x.virtualtransaction = (SELECT l.virtualtransaction ` + heldSQL + ` AND l.pid IS NULL LIMIT 1)`
)

// lookAtHolder finds out who has the lock that this replica could not get.
func (s *session) lookAtHolder(ctx context.Context) error {
	if time.Since(s.watched.looked) >= holderLookEvery || s.Seq.Stranger() {
		h, err := s.whoHolds(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			s.watched = watched{} // it was given back just now
			return nil
		}
		if err != nil {
			return fmt.Errorf("look who holds the publishing lock: %w", err)
		}
		if s.former.is(h) {
			return s.endFormer(ctx)
		}
		if h.pid != s.watched.pid || h.prepared != s.watched.prepared {
			s.watched = watched{holder: h, since: time.Now()}
		}
		s.watched.looked = time.Now()
	}
	s.judgeHolder()
	return nil
}

func (s *session) whoHolds(ctx context.Context) (h holder, err error) {
	var pid *int // none for a prepared transaction
	err = s.conn.QueryRow(ctx, holderSQL, s.Key).Scan(&pid, &h.user, &h.application, &h.replicas, &h.began)
	switch {
	case err != nil:
	case pid != nil:
		h.pid = *pid
	default:
		err = s.conn.QueryRow(ctx, preparedSQL, s.Key).Scan(&h.prepared, &h.user)
	}
	return h, err
}

// judgeHolder believes a session that logs in as replicas do and sends markers.
// Any other keeps every replica from publishing, and somebody has to end it.
func (s *session) judgeHolder() {
	w := s.watched
	if w.replicas {
		s.Seq.HeldBy(w.pid)
	} else {
		s.Seq.HeldBy(0)
	}
	if w.replicas && (s.Seq.HolderHeard() || time.Since(w.since) < silentAfter) {
		s.rival.Store(time.Now().UnixNano())
		s.Foreign.Clear(s.Log)
		return
	}
	s.Foreign.Set(s.Log, errors.New(w.stranger()))
}

// stranger says who it is, and how to be rid of it.
func (h *holder) stranger() string {
	user := strings.ToValidUTF8(h.user, "?")
	if h.pid == 0 {
		return fmt.Sprintf("held by the prepared transaction %q of user %q: ROLLBACK PREPARED ends it", strings.ToValidUTF8(h.prepared, "?"), user)
	}
	return fmt.Sprintf("held by backend %d, user %q, application %q, which is no replica: end that session", h.pid, user, strings.ToValidUTF8(h.application, "?"))
}
