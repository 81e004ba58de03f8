package client

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
)

// Code names a kind of failure. The constants are all there are.
type Code string

// The codes that pgbridge answers.
const (
	CodeInvalidRequest Code = Code(api.CodeInvalidRequest) // the request cannot be understood
	CodeDenied         Code = Code(api.CodeDenied)         // the configuration forbids it
	CodeNotFound       Code = Code(api.CodeNotFound)       // no such script, cursor, channel, object or bucket
	CodeTimeout        Code = Code(api.CodeTimeout)        // the time ran out; rolled back
	CodeConflict       Code = Code(api.CodeConflict)       // serialization failure or deadlock; or a message id reused
	CodeGone           Code = Code(api.CodeGone)           // the transaction has ended or expired
	CodeTooLarge       Code = Code(api.CodeTooLarge)       // the result does not fit; nothing was done
	CodeSQLError       Code = Code(api.CodeSQLError)       // PostgreSQL refused a statement
	CodeBusy           Code = Code(api.CodeBusy)           // no connection was free, or too much was waiting
	CodeInternal       Code = Code(api.CodeInternal)       // a defect of pgbridge's
	CodeUnavailable    Code = Code(api.CodeUnavailable)    // PostgreSQL cannot be reached; nothing was done
	CodeUnknown        Code = Code(api.CodeUnknown)        // lost during COMMIT: done or not, nobody knows
)

var (
	// ErrOutcomeUnknown is in every error after which nobody can say whether the
	// request was done: no answer came, or the connection to PostgreSQL was lost
	// during COMMIT. With a message id it can be sent again.
	ErrOutcomeUnknown = request.ErrOutcomeUnknown
	// ErrReplicaGone says that the replica that held a transaction has gone, and
	// the transaction with it. Whether a commit that was under way was done is
	// unknown; then ErrOutcomeUnknown is in the error as well.
	ErrReplicaGone = request.ErrReplicaGone
)

// Error is a failure as pgbridge reports it; errors.As finds it. The fields from
// SQLState on are PostgreSQL's, as it sent them, and empty where they do not
// apply.
type Error struct {
	Code    Code
	Message string
	// Retryable says that the same request can succeed later and cannot be done
	// twice.
	Retryable bool

	Statement int   // number in the script, from 1; 0: not known
	Line      int   // in the script's file, from 1
	Position  int   // character in the statement, from 1
	Row       int64 // number of a cursor's row, from 1

	SQLState, Severity, Detail, Hint  string
	Where                             string
	Schema, Table, Column, Constraint string
}

// Error returns the code and the message, which may quote what the request held.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }

// MarshalJSON writes the error as it came, for whoever passes it on.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(api.Error{
		Code: api.Code(e.Code), Message: e.Message, Retryable: e.Retryable,
		Statement: e.Statement, Line: e.Line, Position: e.Position, Row: e.Row,
		SQLState: e.SQLState, Severity: e.Severity, Detail: e.Detail, Hint: e.Hint, Where: e.Where,
		Schema: e.Schema, Table: e.Table, Column: e.Column, Constraint: e.Constraint,
	})
}

// Is makes an error with the code unknown be [ErrOutcomeUnknown].
func (e *Error) Is(target error) bool {
	return target == ErrOutcomeUnknown && e.Code == CodeUnknown
}

// AsError returns the [*Error] that err is or holds, as errors.As does.
func AsError(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// ErrorIn returns the [*Error] that a message of pgbridge's carries, for those who
// subscribe answers or results themselves, and nil where it carries none.
func ErrorIn(m *nats.Msg) error {
	if failure := api.DecodeError(m.Header, m.Data); failure != nil {
		return public(failure)
	}
	return nil
}

// public turns an error of the wire into the package's own.
func public(err error) error {
	var e *api.Error
	if !errors.As(err, &e) {
		return err
	}
	mine := &Error{
		Code: Code(e.Code), Message: e.Message, Retryable: e.Retryable,
		Statement: e.Statement, Line: e.Line, Position: e.Position, Row: e.Row,
		SQLState: e.SQLState, Severity: e.Severity, Detail: e.Detail, Hint: e.Hint, Where: e.Where,
		Schema: e.Schema, Table: e.Table, Column: e.Column, Constraint: e.Constraint,
	}
	if errors.Is(err, ErrOutcomeUnknown) && mine.Code != CodeUnknown {
		return fmt.Errorf("%w: %w", mine, ErrOutcomeUnknown)
	}
	return mine
}
