package service

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs that clients see as a code of their own.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	stateSerializationFailure = "40001"
	stateDeadlockDetected     = "40P01"
	stateQueryCanceled        = "57014"
)

// FromPostgres returns what a client gets to know of an error that a
// PostgreSQL connection returned. committing says that a COMMIT, which is any
// statement outside a transaction block too, may have been on its way: then a
// connection that was lost without a word from the server leaves the outcome
// unknown.
func FromPostgres(err error, committing bool) *Error {
	var refused *pgconn.ConnectError
	var reported *pgconn.PgError
	switch {
	case errors.As(err, &refused), pgconn.SafeToRetry(err):
		return Errorf(CodeUnavailable, "PostgreSQL cannot be reached").WithCause(err)
	case errors.As(err, &reported):
		return fromReport(reported)
	case committing:
		return Errorf(CodeUnknown, "the connection to PostgreSQL was lost while COMMIT was under way").WithCause(err)
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return Errorf(CodeTimeout, "the time ran out").WithCause(err)
	}
	return Errorf(CodeUnavailable, "the connection to PostgreSQL was lost").WithCause(err)
}

// fromReport translates an error that PostgreSQL itself reported, which means
// that the transaction was rolled back.
func fromReport(report *pgconn.PgError) *Error {
	severity := cmp.Or(report.SeverityUnlocalized, report.Severity)
	code := codeOf(report.Code, severity)
	return &Error{
		Code:       code,
		Message:    report.Message,
		Retryable:  code.retryable() || code == CodeConflict,
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

func codeOf(state, severity string) Code {
	switch state {
	case stateSerializationFailure, stateDeadlockDetected:
		return CodeConflict
	case stateQueryCanceled:
		return CodeTimeout
	}
	if severity == "FATAL" || severity == "PANIC" { // the server ended the session: shutdown, crash, a session time limit
		return CodeUnavailable
	}
	return CodeSQLError
}
