package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
)

const maxHeaderBytes = 256

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
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Retryable: code.Retryable()}
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

// Encode returns the error as clients get it: headers and body.
func (e *Error) Encode() (nats.Header, []byte, error) {
	line := oneLine(e.Message)
	if line == "" {
		line = string(e.Code)
	}
	header := nats.Header{
		HeaderErrorCode: {strconv.Itoa(e.Code.Number())},
		HeaderError:     {line},
	}
	short := *e
	for _, text := range []*string{
		&short.Message, &short.Detail, &short.Where,
		// Functions can put any text into these with RAISE ... USING.
		&short.Hint, &short.Schema, &short.Table, &short.Column, &short.Constraint,
	} {
		*text = cut(*text, MaxTextBytes)
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // SQL is full of < and >
	if err := encoder.Encode(ErrorBody{&short}); err != nil {
		return nil, nil, fmt.Errorf("encode an error reply: %w", err)
	}
	return header, bytes.TrimSuffix(body.Bytes(), []byte("\n")), nil
}

// ErrorBody is the body of an error reply.
type ErrorBody struct {
	Error *Error `json:"error"`
}

// DecodeError returns the error that a reply is, and nil for any other reply.
// Where the body cannot be read the headers say what there is.
func DecodeError(header nats.Header, data []byte) *Error {
	if header.Get(HeaderErrorCode) == "" {
		return nil
	}
	var body ErrorBody
	if err := json.Unmarshal(data, &body); err != nil || body.Error == nil {
		return &Error{Code: codeOf(header.Get(HeaderErrorCode)), Message: header.Get(HeaderError)}
	}
	return body.Error
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
