package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/inlet"
)

// answers reads what PostgreSQL answers to the messages of one round trip, in their
// order. pgconn's own pipeline keeps a queue of what was sent, at the cost of some
// objects for each statement; here the steps are that queue.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
type answers struct {
	conn    *pgconn.PgConn
	stopped func() error    // why the context that it is read under has ended; nil, or nil returned: it has not
	result  Result          // the one being read
	refused *pgconn.PgError // what came in place of the answer; nil: nothing
}

// next waits for a message. After an error, which is never PostgreSQL's refusal of one
// statement, the connection is closed.
func (a *answers) next() (pgproto3.BackendMessage, error) {
	for {
		message, err := a.conn.ReceiveMessage(context.Background())
		if err != nil {
			closeNow(a.conn)
			return nil, ended(a.stopped, unwrapped(err))
		}
		switch message.(type) {
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus, *pgproto3.NotificationResponse:
		default:
			return message, nil
		}
	}
}

// unwrapped takes away pgconn's word that what was sent may be sent again: it says so of
// every message that did not come.
func unwrapped(err error) error {
	var claims interface{ SafeToRetry() bool }
	if errors.As(err, &claims) {
		if inner := errors.Unwrap(claims.(error)); inner != nil {
			return inner
		}
	}
	return err
}

// ended names the context's end where that is what an error comes from.
func ended(stopped func() error, err error) error {
	var network net.Error
	if stopped == nil || !errors.As(err, &network) || !network.Timeout() {
		return err
	}
	if why := stopped(); why != nil {
		return fmt.Errorf("%w (%w)", why, err)
	}
	return err
}

var errOutOfStep = fmt.Errorf("%w: its answers are out of step", inlet.ErrForm)

// refuse notes an error that PostgreSQL answers.
func (a *answers) refuse(m *pgproto3.ErrorResponse) error {
	a.refused = pgconn.ErrorResponseToPgError(m)
	return a.refused
}

// outOfStep gives up a connection that answers something else than was asked.
func (a *answers) outOfStep(m pgproto3.BackendMessage) error {
	closeNow(a.conn)
	return fmt.Errorf("PostgreSQL sent %T: %w", m, errOutOfStep)
}

// unlike gives up a connection whose rows are not what they were said to be: whoever
// takes one relies on it.
func (a *answers) unlike(what string, columns, want int) error {
	closeNow(a.conn)
	return fmt.Errorf("%w: %s of %d columns, not %d", inlet.ErrForm, what, columns, want)
}

// to reads the answer to one step, which returns such fields where it is not asked for
// them, and so many columns if there are any, up to where its result begins: a
// *pgconn.StatementDescription or a *Result, or nil where there is none. An error is
// PostgreSQL's refusal, or the connection is closed.
func (a *answers) to(fields []pgconn.FieldDescription, columns int) (result any, err error) {
	var described *pgconn.StatementDescription
	a.refused, a.result = nil, Result{answers: a, fields: fields, columns: columns}
	for {
		message, err := a.next()
		if err != nil {
			return nil, err
		}
		switch m := message.(type) {
		case *pgproto3.ParseComplete, *pgproto3.BindComplete:
			continue
		case *pgproto3.CloseComplete:
			return nil, nil
		case *pgproto3.ErrorResponse:
			return nil, a.refuse(m)
		case *pgproto3.ParameterDescription:
			described = &pgconn.StatementDescription{ParamOIDs: slices.Clone(m.ParameterOIDs)}
			continue
		case *pgproto3.RowDescription:
			returned := describeFields(m.Fields)
			if columns > 0 && len(returned) != columns {
				return nil, a.unlike("a statement of ours", len(returned), columns)
			}
			if described != nil {
				described.Fields = returned
				return described, nil
			}
			a.result.fields = returned
			continue
		case *pgproto3.NoData:
			if described != nil {
				return described, nil
			}
			continue
		}
		if a.result.take(message); a.result.err != nil {
			return nil, a.result.err
		}
		return &a.result, nil
	}
}

// ready waits for the end of the round trip. The error is PostgreSQL's, which can come
// at the end as well, or the connection is closed.
func (a *answers) ready() (err error) {
	for {
		message, broken := a.next()
		if broken != nil {
			return broken
		}
		switch m := message.(type) {
		case *pgproto3.ReadyForQuery:
			return err
		case *pgproto3.ErrorResponse:
			err = a.refuse(m)
		default:
			return a.outOfStep(m)
		}
	}
}

// Result is what the execution of a statement returns, row by row. It is valid
// until its [Reader] returns, and what was not read of it is thrown away.
type Result struct {
	answers *answers
	fields  []pgconn.FieldDescription
	columns int // that a statement of our own returns; 0: as many as fields
	row     [][]byte
	ahead   bool // row was not handed out yet
	ended   bool
	tag     pgconn.CommandTag
	err     error
}

// FieldDescriptions returns the columns, of a prepared statement as they were when it
// was prepared. None means that there are no rows.
func (r *Result) FieldDescriptions() []pgconn.FieldDescription { return r.fields }

// NextRow waits for the next row and reports whether there is one.
func (r *Result) NextRow() bool {
	if r.ahead {
		r.ahead = false
		return true
	}
	for !r.ended {
		message, err := r.answers.next()
		if err != nil {
			r.ended, r.err = true, err
			break
		}
		if r.take(message); r.ahead {
			r.ahead = false
			return true
		}
	}
	return false
}

// Values returns the row in the text format, nil for NULL: one value for each of
// FieldDescriptions. It is valid until the next call of NextRow or Close.
func (r *Result) Values() [][]byte { return r.row }

// Close reads up to the end and returns the command's tag, or why there is none.
func (r *Result) Close() (pgconn.CommandTag, error) {
	for r.NextRow() {
	}
	return r.tag, r.err
}

// take takes one message of the result, which is not an error in the order of things.
func (r *Result) take(message pgproto3.BackendMessage) {
	switch m := message.(type) {
	case *pgproto3.DataRow:
		// One of no columns can come before the description of what we asked for.
		if n := len(m.Values); n != len(r.fields) || r.columns > 0 && n != r.columns {
			r.ended, r.err = true, r.answers.unlike("a row", n, cmp.Or(r.columns, len(r.fields)))
			return
		}
		r.row, r.ahead = m.Values, true
	case *pgproto3.CommandComplete:
		r.ended, r.tag = true, tagOf(m.CommandTag)
	case *pgproto3.EmptyQueryResponse:
		r.ended = true
	case *pgproto3.ErrorResponse:
		r.ended, r.err = true, r.answers.refuse(m)
	default:
		r.ended, r.err = true, r.answers.outOfStep(m)
	}
}

// tags are the common ones, which need no memory of their own.
var tags = func() map[string]pgconn.CommandTag {
	all := make(map[string]pgconn.CommandTag)
	for _, tag := range []string{
		"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "RESET", "UNLISTEN", "CLOSE CURSOR ALL",
		"DISCARD SEQUENCES", "DISCARD TEMP", "SELECT 0", "SELECT 1", "INSERT 0 0", "INSERT 0 1", "UPDATE 0", "UPDATE 1",
		"DELETE 0", "DELETE 1",
	} {
		all[tag] = pgconn.NewCommandTag(tag)
	}
	return all
}()

func tagOf(text []byte) pgconn.CommandTag {
	if tag, ok := tags[string(text)]; ok {
		return tag
	}
	return pgconn.NewCommandTag(string(text))
}

// describeFields copies what PostgreSQL says of columns.
func describeFields(from []pgproto3.FieldDescription) []pgconn.FieldDescription {
	fields := make([]pgconn.FieldDescription, len(from))
	for i := range from {
		f := &from[i]
		fields[i] = pgconn.FieldDescription{
			Name: string(f.Name), TableOID: f.TableOID, TableAttributeNumber: f.TableAttributeNumber, DataTypeOID: f.DataTypeOID,
			DataTypeSize: f.DataTypeSize, TypeModifier: f.TypeModifier, Format: f.Format,
		}
	}
	return fields
}
