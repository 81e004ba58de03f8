package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// Code names a kind of failure to clients. The constants are all there are.
type Code string

// The codes, each with its number in the header Nats-Service-Error-Code.
const (
	CodeInvalidRequest Code = "invalid_request" // 400: the request cannot be understood
	CodeDenied         Code = "denied"          // 403: the configuration forbids it
	CodeNotFound       Code = "not_found"       // 404: no such script, cursor or channel
	CodeTimeout        Code = "timeout"         // 408: the time ran out, rolled back
	CodeConflict       Code = "conflict"        // 409: serialization failure, deadlock or a reused message id
	CodeGone           Code = "gone"            // 410: the pinned transaction has ended
	CodeTooLarge       Code = "too_large"       // 413: does not fit; nothing was done
	CodeSQLError       Code = "sql_error"       // 422: PostgreSQL refused a statement
	CodeBusy           Code = "busy"            // 429: no free connection, or too much is waiting
	CodeInternal       Code = "internal"        // 500: a defect
	CodeUnavailable    Code = "unavailable"     // 503: PostgreSQL cannot be reached, nothing was done
	CodeUnknown        Code = "unknown"         // 504: lost during COMMIT, done or not
)

// Number returns the code's number, and 500 for a code that does not exist.
func (c Code) Number() int {
	switch c {
	case CodeInvalidRequest:
		return 400
	case CodeDenied:
		return 403
	case CodeNotFound:
		return 404
	case CodeTimeout:
		return 408
	case CodeConflict:
		return 409
	case CodeGone:
		return 410
	case CodeTooLarge:
		return 413
	case CodeSQLError:
		return 422
	case CodeBusy:
		return 429
	case CodeUnavailable:
		return 503
	case CodeUnknown:
		return 504
	}
	return 500
}

// retryable reports whether a failure of this kind usually did nothing and
// may go away by itself.
func (c Code) retryable() bool {
	return c == CodeTimeout || c == CodeBusy || c == CodeUnavailable
}

const (
	maxHeaderBytes = 256
	maxTextBytes   = 8 << 10
)

// Error is a failure as the client sees it. Empty fields are left out of the
// reply; texts over 8 KiB are cut there, not here.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Retryable says that sending the same request again can succeed and
	// cannot do it twice.
	Retryable bool `json:"retryable"`

	Statement  int    `json:"statement,omitempty"` // number in the script, from 1
	SQLState   string `json:"sqlstate,omitempty"`
	Severity   string `json:"severity,omitempty"`
	Detail     string `json:"detail,omitempty"`
	Hint       string `json:"hint,omitempty"`
	Position   int    `json:"position,omitempty"` // character in the statement, from 1
	Line       int    `json:"line,omitempty"`     // line in the script's file, from 1
	Row        int64  `json:"row,omitempty"`      // number of a cursor's row, from 1
	Where      string `json:"where,omitempty"`
	Schema     string `json:"schema,omitempty"`
	Table      string `json:"table,omitempty"`
	Column     string `json:"column,omitempty"`
	Constraint string `json:"constraint,omitempty"`

	cause error // for the log; clients never see it
}

// Errorf returns an Error with a message for the client. It is retryable when
// failures with this code usually are.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Retryable: code.retryable()}
}

// WithCause adds what lies behind the failure, for logs and errors.Is; the
// client does not see it. It returns e.
func (e *Error) WithCause(err error) *Error {
	e.cause = err
	return e
}

// Error returns a text that is fit for a log: PostgreSQL's own message can
// quote parameters, so only its SQLSTATE is in it.
func (e *Error) Error() string {
	switch {
	case e.SQLState != "":
		return fmt.Sprintf("%s: SQLSTATE %s", e.Code, e.SQLState)
	case e.cause != nil:
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap returns the cause, nil if there is none.
func (e *Error) Unwrap() error { return e.cause }

// AsError returns the Error that err is or wraps, also for an untranslated
// error of PostgreSQL's, whose text is not for logs. Any other error is a
// defect, whose text is not for clients.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var reported *pgconn.PgError
	if errors.As(err, &reported) {
		return FromPostgres(err, true)
	}
	return Errorf(CodeInternal, "internal error, see the log of pgbridge").WithCause(err)
}

// Reply returns the error as clients get it: headers and body.
func (e *Error) Reply() (Reply, error) {
	line := oneLine(e.Message)
	if line == "" {
		line = string(e.Code)
	}
	header := nats.Header{
		micro.ErrorCodeHeader: {strconv.Itoa(e.Code.Number())},
		micro.ErrorHeader:     {line},
	}
	short := *e
	for _, text := range []*string{
		&short.Message, &short.Detail, &short.Where,
		// Functions can put any text into these with RAISE ... USING.
		&short.Hint, &short.Schema, &short.Table, &short.Column, &short.Constraint,
	} {
		*text = cut(*text, maxTextBytes)
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // SQL is full of < and >
	if err := encoder.Encode(map[string]*Error{"error": &short}); err != nil {
		return Reply{}, fmt.Errorf("encode an error reply: %w", err)
	}
	return Reply{Header: header, Data: bytes.TrimSuffix(body.Bytes(), []byte("\n"))}, nil
}

// oneLine makes a text fit for a header: valid UTF-8 without control
// characters, at most maxHeaderBytes long.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, cut(s, maxHeaderBytes))
	return strings.TrimSpace(cut(s, maxHeaderBytes))
}

// cut returns s as valid UTF-8, shortened to at most limit bytes.
func cut(s string, limit int) string {
	if len(s) > limit {
		end := limit
		for end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return strings.ToValidUTF8(s, "?")
}
