package txrunner

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/service"
)

// SQLSTATEs that are more than an error to be passed on.
const (
	stateFailedTransaction = "25P02"
	stateUnknownStatement  = "26000" // a prepared statement that PostgreSQL does not know
	stateCannotRevalidate  = "0A000" // for one, when a plan's result type changed
)

// failure translates what stopped an execution into what the client gets to
// know.
func (x *execution) failure(ctx context.Context, err error) *service.Error {
	var typed *service.Error
	switch {
	case x.tooLarge && x.committing: // rows that nobody could foresee
		return service.Errorf(service.CodeInternal, "the script was committed, but its result does not fit one message")
	case x.tooLarge:
		return service.Errorf(service.CodeTooLarge, "the result does not fit one message of %d bytes: use a cursor or a copy", x.result.limit+replyReserve)
	case errors.As(err, &typed):
		return typed
	case errors.Is(context.Cause(ctx), context.Canceled) && !x.committing:
		return service.Errorf(service.CodeUnavailable, "pgbridge is stopping").WithCause(errStopping)
	case errors.Is(err, errStale), errors.Is(err, errIDGone):
		failure := service.Errorf(service.CodeConflict, "something else changed while the request was served").WithCause(err)
		failure.Retryable = true
		return failure
	}
	failure := service.FromPostgres(err, x.committing)
	x.locate(failure, err)
	if failure.Code == service.CodeUnknown && x.id != nil {
		failure.Retryable = true // the id finds out, and does it once
	}
	if errors.Is(err, errIDHeld) {
		failure = failure.WithCause(errIDHeld)
	}
	if failure.Code == service.CodeTimeout && ctx.Err() != nil {
		failure.Message = "the time ran out"
	}
	return failure
}

var errStopping = errors.New("the context of the request ended")

// locate says which statement of the script it was, and where in it.
func (x *execution) locate(failure *service.Error, err error) {
	var at *stepError
	if !errors.As(err, &at) || at.kind != stepRun && at.kind != stepDescribe || failure.SQLState == "" {
		return
	}
	statement := &x.program.Statements[at.statement]
	failure.Statement, failure.Line = at.statement+1, statement.Line
	if failure.Position > 0 {
		place := statement.Locate(failure.Position)
		failure.Position, failure.Line = place.Position, place.Line
	}
}

// stale reports whether an error may come from what the connection had prepared
// before the database's tables changed, so that it is worth preparing again.
func (x *execution) stale(err error) bool {
	var at *stepError
	var report *pgconn.PgError
	if errors.Is(err, errStale) {
		return true
	}
	if !errors.As(err, &at) || !errors.As(err, &report) || x.session.lost() {
		return false
	}
	switch {
	case report.Code == stateUnknownStatement: // it may be one of our own
		return true
	case report.Code == stateCannotRevalidate && report.Routine == "RevalidateCachedQuery":
		if x.fresh && at.kind == stepRun && at.statement > 0 { // the statements before have changed its tables
			x.program.foreseeable.Store(int64(at.statement))
		}
		return true
	case x.fresh:
		return false
	case report.Code == "42501": // insufficient_privilege
		return false
	}
	return at.kind == stepRun && otherTypes(report.Code)
}

// otherTypes reports whether an error may be that of a statement that was
// prepared when its tables had other columns, or of parameters that were written
// for those.
func otherTypes(state string) bool {
	switch state {
	case "22P02", "22003", "22007", "22008": // not written like the type, out of range
		return true
	}
	return state[:2] == "42"
}
