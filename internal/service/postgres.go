package service

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/inlet"
)

// SQLSTATEs that clients see as a code of their own.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	stateSerializationFailure = "40001"
	stateDeadlockDetected     = "40P01"
	stateQueryCanceled        = "57014"
	stateTransactionTimeout   = "25P04" // it ends the session, but PostgreSQL stays
)

// FromPostgres returns what a client gets to know of an error that a
// PostgreSQL connection returned. committing says that a COMMIT, which is any
// statement outside a transaction block too, may have been on its way: then a
// connection that was lost without a word from the server, or with one that comes
// from a crash, leaves the outcome unknown.
func FromPostgres(err error, committing bool) *Error {
	var refused *pgconn.ConnectError
	var reported *pgconn.PgError
	switch {
	case errors.As(err, &refused), pgconn.SafeToRetry(err):
		return Errorf(CodeUnavailable, "PostgreSQL cannot be reached").WithCause(err)
	case errors.As(err, &reported) && committing && !certain(reported):
		return Errorf(CodeUnknown, "PostgreSQL crashed while COMMIT was under way").WithCause(err)
	case errors.As(err, &reported):
		return fromReport(reported)
	case committing:
		return Errorf(CodeUnknown, "the connection to PostgreSQL was lost while COMMIT was under way").WithCause(err)
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return Errorf(CodeTimeout, "the time ran out").WithCause(err)
	}
	return Errorf(CodeUnavailable, "the connection to PostgreSQL was lost").WithCause(err)
}

// certain reports whether a report means that nothing was committed. A backend
// that PostgreSQL ends by itself looks for that before COMMIT and not within. One
// that panics, or ends because another has crashed, can have written the commit
// record: whether recovery finds it on disk nobody knows.
// https://github.com/postgres/postgres/blob/master/src/backend/tcop/postgres.c
func certain(report *pgconn.PgError) bool {
	switch cmp.Or(report.SeverityUnlocalized, report.Severity) {
	case "FATAL":
		switch report.Code {
		case "57P01", "57P04", "57P05", "25P03", "25P04": // shutdown, a dropped database, limits of time
			return true
		}
		return false
	case "PANIC":
		return false
	}
	return true
}

// fromReport translates an error that PostgreSQL itself reported, which means
// that the transaction was rolled back.
func fromReport(report *pgconn.PgError) *Error {
	severity := cmp.Or(report.SeverityUnlocalized, report.Severity)
	code := codeOf(report, severity)
	return &Error{
		Code:       code,
		Message:    report.Message,
		Retryable:  code.Retryable() || code == CodeConflict,
		SQLState:   report.Code,
		Severity:   severity,
		Detail:     report.Detail,
		Hint:       report.Hint,
		Position:   int(report.Position),
		Where:      report.Where,
		Schema:     report.SchemaName,
		Table:      report.TableName,
		Column:     report.ColumnName,
		Constraint: report.ConstraintName,
	}
}

func codeOf(report *pgconn.PgError, severity string) Code {
	switch report.Code {
	case stateSerializationFailure, stateDeadlockDetected:
		return CodeConflict
	case stateQueryCanceled, stateTransactionTimeout:
		return CodeTimeout
	}
	own := report.Routine == inlet.Routine
	switch {
	case own && report.Code == inlet.StateNoMemory:
		return CodeBusy
	case own && report.Code == inlet.StateTooLarge:
		return CodeTooLarge
	case severity == "FATAL", severity == "PANIC": // the server ended the session: shutdown, crash, a session time limit
		return CodeUnavailable
	}
	return CodeSQLError
}

// AsError returns the Error that err is or wraps, also for an untranslated
// error of PostgreSQL's, whose text is not for logs, and for those of a budget.
// Any other error is a defect, whose text is not for clients.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var reported *pgconn.PgError
	switch {
	case errors.As(err, &reported):
		return FromPostgres(err, true)
	case errors.Is(err, budget.ErrTooLarge):
		return Errorf(CodeTooLarge, "%v", budget.ErrTooLarge)
	case errors.Is(err, budget.ErrFull):
		return Errorf(CodeBusy, "%v", budget.ErrFull)
	}
	return Errorf(CodeInternal, "internal error, see the log of pgbridge").WithCause(err)
}
