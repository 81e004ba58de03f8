package execution

import (
	"cmp"
	"time"

	"github.com/pgbridge/pgbridge/internal/session"
)

// Settings are set in the same round trip as the work. set_config with true
// lasts until the end of the transaction, or until a ROLLBACK TO a savepoint
// from before it.
const (
	settingsSQL = `SELECT pg_catalog.set_config('pgbridge.caller', $1, true),
	pg_catalog.set_config('statement_timeout', $2, true), pg_catalog.set_config('role', $3, true)`
	pinnedSettingsSQL = `SELECT pg_catalog.set_config('pgbridge.caller', $1, true),
	pg_catalog.set_config('statement_timeout', $2, true), pg_catalog.set_config('role', $3, true),
	pg_catalog.set_config('idle_in_transaction_session_timeout', $4, true)`

	// What is sent only for who is traced: pgbridge.notify puts it into its events.
	traceSQL = `SELECT pg_catalog.set_config('pgbridge.traceparent', $1, true),
	pg_catalog.set_config('pgbridge.tracestate', $2, true)`
	traceNameSQL = `SELECT pg_catalog.set_config('pgbridge.traceparent', $1, true),
	pg_catalog.set_config('pgbridge.tracestate', $2, true), pg_catalog.set_config('application_name', $3, true)`

	noRole = session.NoRole
)

// SetPinned sets what holds in a pinned transaction until it is set again: the
// caller, the time limit of each statement and the login's own role. idle is
// PostgreSQL's own limit of idleness: it frees what the transaction holds when
// this process or its host is dead.
func SetPinned(p *session.Pipeline, caller string, deadline time.Time, idle time.Duration) {
	setPinned(p, caller, p.Session.Limit(deadline), []byte(noRole), idle)
}

func setPinned(p *session.Pipeline, caller string, limit, role []byte, idle time.Duration) {
	p.Own(session.StepOwn, pinnedSettingsSQL, []byte(caller), limit, p.Session.Role(role), session.Milliseconds(idle+session.ServerMargin))
}

// setTrace tells PostgreSQL which span the work of the transaction belongs to from
// now on, and what tracing systems have left for each other; empty means none. Where the
// session's connections are to be named by the span, application_name says so, too.
func setTrace(p *session.Pipeline, parent, state string) {
	name, named := p.Session.NamesTraces()
	if !named {
		p.Own(session.StepOwn, traceSQL, []byte(parent), []byte(state))
		return
	}
	p.Own(session.StepOwn, traceNameSQL, []byte(parent), []byte(state), []byte(cmp.Or(parent, name)))
}
