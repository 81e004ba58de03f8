package api

import "strconv"

// Code names a kind of failure to clients. The constants are all there are.
type Code string

// The codes. Each has a number in the header Nats-Service-Error-Code.
const (
	CodeInvalidRequest Code = "invalid_request" // the request cannot be understood
	CodeDenied         Code = "denied"          // the configuration forbids it
	CodeNotFound       Code = "not_found"       // no such script, cursor or channel
	CodeTimeout        Code = "timeout"         // the time ran out, rolled back
	CodeConflict       Code = "conflict"        // serialization failure, deadlock or a reused message id
	CodeGone           Code = "gone"            // the pinned transaction has ended
	CodeTooLarge       Code = "too_large"       // does not fit; nothing was done
	CodeSQLError       Code = "sql_error"       // PostgreSQL refused a statement
	CodeBusy           Code = "busy"            // no free connection, or too much is waiting
	CodeInternal       Code = "internal"        // a defect
	CodeUnavailable    Code = "unavailable"     // PostgreSQL cannot be reached, nothing was done
	CodeUnknown        Code = "unknown"         // lost during COMMIT, done or not
)

// numbered is a code with its number.
type numbered struct {
	code   Code
	number int
}

// table lists all codes.
func table() [12]numbered {
	return [...]numbered{
		{CodeInvalidRequest, 400}, {CodeDenied, 403}, {CodeNotFound, 404}, {CodeTimeout, 408},
		{CodeConflict, 409}, {CodeGone, 410}, {CodeTooLarge, 413}, {CodeSQLError, 422}, {CodeBusy, 429},
		{CodeInternal, 500}, {CodeUnavailable, 503}, {CodeUnknown, 504},
	}
}

// Codes returns all codes.
func Codes() []Code {
	var all []Code
	for _, n := range table() {
		all = append(all, n.code)
	}
	return all
}

// codeOf returns the code with a number, and CodeInternal where there is none.
func codeOf(number string) Code {
	for _, n := range table() {
		if number == strconv.Itoa(n.number) {
			return n.code
		}
	}
	return CodeInternal
}

// Number returns the code's number, and 500 for a code that does not exist.
func (c Code) Number() int {
	for _, n := range table() {
		if n.code == c {
			return n.number
		}
	}
	return CodeInternal.Number()
}

// Retryable reports whether a failure of this kind usually did nothing and
// may go away by itself.
func (c Code) Retryable() bool {
	return c == CodeTimeout || c == CodeBusy || c == CodeUnavailable
}
