package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

const diagnoseTimeout = 5 * time.Second

const diagnoseSQL = `SELECT pg_is_in_recovery(),
	has_function_privilege('pg_notify(text, text)', 'execute'),
	EXISTS (SELECT FROM pg_stat_activity WHERE application_name = $1),
	pg_notification_queue_usage()`

// diagnose asks PostgreSQL, over a connection of its own, why no marker comes
// back, and returns the likely cause.
func (c *control) diagnose(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	conn, pooled, err := c.connect(ctx)
	if err != nil {
		return "PostgreSQL cannot be reached: " + explainPostgres(err)
	}
	defer closeConn(ctx, conn)
	var standby, mayNotify, listening bool
	var usage float64
	if err := conn.QueryRow(ctx, diagnoseSQL, c.listener).Scan(&standby, &mayNotify, &listening, &usage); err != nil {
		return "PostgreSQL does not answer: " + explainPostgres(err)
	}
	switch {
	case pooled:
		return "a connection pooler stands before PostgreSQL, and LISTEN needs a session of its own: connect directly, or to a pool in session mode"
	case standby:
		return "the server is a hot standby, which sends no notifications: connect to the primary"
	case !mayNotify:
		return fmt.Sprintf("%s may not execute pg_notify: GRANT EXECUTE ON FUNCTION pg_notify(text, text)", c.settings.User())
	case usage >= 1:
		return "PostgreSQL's notification queue is full: find the session that listens but does not read"
	case !listening:
		return "the listener's backend is gone and the link did not say so: a firewall or proxy dropped it"
	}
	return "the listener's backend is there but nothing arrives: the link is dead or something between holds it back"
}

// explainControl is explainPostgres for the control session. Once that is
// connected, what the role lacks is not CONNECT but what the error names.
func explainControl(err error) string {
	var connecting *pgconn.ConnectError
	if postgres.Explain(err).Kind == postgres.KindPrivilege && !errors.As(err, &connecting) {
		return err.Error()
	}
	return explainPostgres(err)
}

func explainPostgres(err error) string {
	fault := postgres.Explain(err)
	if fault.Kind == postgres.KindOther {
		return err.Error()
	}
	return fault.String()
}
