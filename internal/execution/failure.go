package execution

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// SQLSTATEs that are more than an error to be passed on.
const (
	stateUnknownStatement = "26000" // a prepared statement that PostgreSQL does not know
	stateStatementExists  = "42P05" // one that a function wants to prepare again
	stateCannotRevalidate = "0A000" // for one, when a plan's result type changed
)

// Failure translates what stopped a call, before any statement of its program was
// sent, into what the client gets to know.
func (c *Call) Failure(ctx context.Context, err error) *service.Error {
	return (&Execution{call: c}).failure(ctx, err)
}

// failure translates what stopped an execution into what the client gets to
// know.
func (x *Execution) failure(ctx context.Context, err error) *service.Error {
	var typed *service.Error
	switch {
	case x.reply.refused != nil && !x.committing:
		return service.AsError(x.reply.refused)
	case x.reply.tooLarge && x.committing: // rows that nobody could foresee
		return service.Errorf(service.CodeInternal, "the script was committed, but its result does not fit one message")
	case x.reply.tooLarge:
		return service.Errorf(service.CodeTooLarge, "the result does not fit one message of %d bytes: use a cursor or a copy", x.reply.limit+Reserve)
	case errors.As(err, &typed):
		return typed
	case errors.Is(context.Cause(ctx), context.Canceled) && !x.committing:
		return service.Errorf(service.CodeUnavailable, "pgbridge is stopping").WithCause(errStopping)
	case errors.Is(err, errStale), errors.Is(err, errIDGone):
		failure := service.Errorf(service.CodeConflict, "something else changed while the request was served").WithCause(err)
		failure.Retryable = true
		return failure
	}
	x.trace.refused(x.call, err)
	failure := service.FromPostgres(err, x.committing && session.AtCommit(err))
	x.locate(failure, err)
	if failure.Code == service.CodeUnknown && x.call.ID != nil {
		failure.Retryable = true // the id finds out, and does it once
	}
	if errors.Is(err, ErrIDHeld) {
		failure = failure.WithCause(ErrIDHeld)
	}
	if failure.Code == service.CodeTimeout && ctx.Err() != nil {
		failure.Message = "the time ran out"
	}
	return failure
}

var errStopping = errors.New("the context of the request ended")

// Stopped reports whether a call failed because this process stops.
func Stopped(err error) bool { return errors.Is(err, errStopping) || errors.Is(err, context.Canceled) }

// locate says which statement of the script it was, and where in it.
func (x *Execution) locate(failure *service.Error, err error) {
	var at *session.StepError
	if !errors.As(err, &at) || at.Step.Kind != session.StepRun && at.Step.Kind != session.StepDescribe || failure.SQLState == "" {
		return
	}
	statement := &x.call.Program.Script.Statements[at.Step.Statement]
	failure.Statement, failure.Line = at.Step.Statement+1, statement.Line
	Explain(failure, statement)
	if failure.Position > 0 {
		place := statement.Locate(failure.Position)
		failure.Position, failure.Line = place.Position, place.Line
	}
}

// stale reports whether an execution was in vain because of what the connection
// had prepared or the script had learned, so that doing it again is another thing:
// it has done nothing, and something has changed. The session is outside a
// transaction.
func (x *Execution) stale(ctx context.Context, err error) bool {
	var at *session.StepError
	var report *pgconn.PgError
	if errors.Is(err, errStale) {
		return true
	}
	if errors.Is(err, errUnsuitable) { // nothing was sent
		return !x.fresh && x.session.Moved(ctx, x.call.Program.Script)
	}
	if !errors.As(err, &at) || !errors.As(err, &report) || x.session.Lost() {
		return false
	}
	script := x.call.Program.Script
	switch {
	case report.Code == stateUnknownStatement: // it may be one of our own
		return true
	case report.Code == stateStatementExists: // an earlier run of a function has left it
		first := !x.renewed
		x.renewed = true
		return first
	case session.CheckFailed(err):
		if !x.session.Moved(ctx, script) { // the statements before have changed it, or the search path
			script.Foresee(min(1, x.prepared.Depends()))
		}
		return true
	case report.Code == stateCannotRevalidate && report.Routine == "RevalidateCachedQuery":
		if x.fresh && at.Step.Kind == session.StepRun && at.Step.Statement > 0 { // the same
			script.Foresee(at.Step.Statement)
		}
		return true
	}
	return !x.fresh && at.Step.Kind == session.StepRun && !transient(report.Code) &&
		(x.session.Moved(ctx, script) || ofTypes(report.Code) && x.session.Redescribed(ctx, script))
}

// ofTypes reports whether an error can mean that a function or the like, which no
// check shows, has become another.
func ofTypes(state string) bool {
	switch state[:2] {
	case "42", "XX", "0A":
		return true
	}
	return false
}

// transient reports whether an error has to do with other transactions or with the
// server, and not with types.
func transient(state string) bool {
	switch state[:2] {
	case "40", "53", "55", "57", "58":
		return true
	}
	return false
}
