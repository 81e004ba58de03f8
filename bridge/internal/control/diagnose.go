package control

import (
	"context"
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/internal/problem"
)

const diagnoseTimeout = 5 * time.Second

const diagnoseSQL = `SELECT pg_backend_pid(), pg_is_in_recovery(),
	has_function_privilege('pg_notify(text, text)', 'execute'),
	EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1),
	pg_notification_queue_usage(), array_to_string(pg_blocking_pids($2), ', '),
	coalesce((SELECT string_agg(pid::text, ', ') FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname IS NOT NULL), '')`

// diagnose asks PostgreSQL, over a connection of its own, why no marker comes
// back, and returns the likely cause.
func (c *Control) diagnose(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	conn, _, err := c.connect(ctx)
	if err != nil {
		return "PostgreSQL cannot be reached: " + problem.ExplainPostgres(err)
	}
	defer closeConn(ctx, conn)
	var standby, mayNotify, listening bool
	var usage float64
	var pid uint32                // of the backend; a pooler greets with one of its own
	var blocking, standing string // PIDs
	if err := conn.QueryRow(ctx, diagnoseSQL, c.Listener, c.backendPID()).Scan(&pid, &standby, &mayNotify, &listening, &usage, &blocking, &standing); err != nil {
		return "PostgreSQL does not answer: " + problem.ExplainPostgres(err)
	}
	switch {
	case pid != conn.PgConn().PID():
		return "a connection pooler stands before PostgreSQL, and LISTEN needs a session of its own: connect directly, or to a pool in session mode"
	case standby:
		return "the server is a hot standby, which sends no notifications: connect to the primary"
	case !mayNotify:
		return fmt.Sprintf("%s may not execute pg_notify: GRANT EXECUTE ON FUNCTION pg_notify(text, text)", c.Settings.User())
	case usage >= 1:
		return "PostgreSQL's notification queue is full: find the session that listens but does not read"
	case standing != "":
		return fmt.Sprintf("the commit of backend %s waits for a synchronous standby, and every NOTIFY waits behind it: look at synchronous_standby_names and the standbys", standing)
	case blocking != "":
		return fmt.Sprintf("NOTIFY waits for the transaction of backend %s to commit: look what that waits for", blocking)
	case !listening:
		return "the listener's backend is gone and the link did not say so: a firewall or proxy dropped it"
	}
	return "the listener's backend is there but nothing arrives: the link is dead or something between holds it back"
}

// backendPID is the present session's; 0: there is none.
func (c *Control) backendPID() int32 {
	if p := c.here.Load(); p != nil {
		return p.backend.pid
	}
	return 0
}
