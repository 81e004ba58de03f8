package execution

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/session"
)

const (
	// Reserve is kept free in a message for its headers and the end of
	// its body.
	Reserve = 1 << 10
	// drainLimit is how much of a result that is too large is read and thrown
	// away before PostgreSQL is asked to stop.
	drainLimit = 8 << 20
)

var errTooLarge = errors.New("the result does not fit one message")

// reply is the body of a reply in the making.
type reply struct {
	body     []byte
	limit    int // of the body's length
	format   Format
	started  bool
	finished bool
	tooLarge bool
	canceled bool         // because it was too large
	drained  int          // bytes, as PostgreSQL has sent them
	dropped  bool         // what comes is not wanted
	memory   *budget.Hold // of the body, but for the first chargeStep bytes
	refused  error        // there is none; nil: there is
	pending  []pending
	held     int // bytes of what is pending, as a reply would have it at least
	apart    int // that it takes besides
}

// chargeStep is how much a body grows until memory is asked for: most are shorter.
const chargeStep = 64 << 10

// restart makes the reply an empty one again.
func (r *reply) restart() {
	r.memory.Close()
	*r = reply{body: r.body[:0], limit: r.limit, format: r.format, memory: r.memory}
}

// add appends the result of one statement; columns is nil where it returns no
// rows.
func (r *reply) add(s *session.Session, columns *rows.Columns, from *session.Result) error {
	return r.result(from, func() {
		if columns != nil {
			r.addRows(s, columns, from)
			r.body = append(r.body, ',')
		}
	})
}

func (r *reply) result(from *session.Result, add func()) error {
	if r.dropped {
		_, _ = from.Close() // the pipeline sees an error too
		return nil
	}
	if r.started {
		r.body = append(r.body, ",{"...)
	} else {
		r.body = append(r.body, resultsOpen+"{"...)
		r.started = true
	}
	add()
	tag, err := from.Close()
	if err != nil && !r.canceled {
		return nil // the pipeline sees it too
	}
	switch {
	case r.refused != nil:
		return r.refused
	case r.tooLarge, r.size() > r.limit:
		r.tooLarge = true
		return errTooLarge
	}
	r.body = append(r.body, `"command":"`...)
	r.body = append(r.body, tag.String()...)
	r.body = append(r.body, `","rows_affected":`...)
	r.body = strconv.AppendInt(r.body, tag.RowsAffected(), 10)
	r.body = append(r.body, '}')
	return nil
}

// size is how long the body is, with what is pending.
func (r *reply) size() int { return len(r.body) + r.held }

// appender returns what appends a row, behind the beginning of a result with such
// columns, which it has appended to dst.
func (r *reply) appender(dst []byte, columns *rows.Columns) ([]byte, func(dst []byte, values [][]byte) []byte) {
	dst = append(dst, `"columns":`...)
	dst = columns.AppendHeader(dst)
	dst = append(dst, `,"rows":[`...)
	if r.format.Objects {
		return dst, columns.AppendObject
	}
	return dst, columns.AppendRow
}

func (r *reply) addRows(s *session.Session, columns *rows.Columns, from *session.Result) {
	var appendRow func(dst []byte, values [][]byte) []byte
	shown := r.format.Columns(columns)
	r.body, appendRow = r.appender(r.body, shown)
	for first := true; from.NextRow(); first = false {
		if r.tooLarge || r.size() > r.limit || !r.room(shown.Least(from.Values(), r.format.Objects, r.limit)) {
			r.drain(s, from.Values())
			continue
		}
		if !first {
			r.body = append(r.body, ',')
		}
		r.body = appendRow(r.body, from.Values())
		r.charge()
	}
	r.body = append(r.body, ']')
}

// room reports whether a row may be written that has so many bytes at least, and takes
// the memory of a long one before it is.
func (r *reply) room(bytes int) bool {
	if bytes > r.limit {
		return false
	}
	if bytes > chargeStep {
		r.take(r.size() + r.apart + bytes)
	}
	return r.refused == nil
}

// larger reports whether a row is longer than any that could be made fit. As JSON
// a value can lose half of its length, where an array's elements are JSON.
func larger(values [][]byte, limit int) bool {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	return n > limit
}

// charge takes the memory that the body is in, now and then; without it the rest is
// thrown away.
func (r *reply) charge() {
	taken := r.size() + r.apart
	if taken-r.memory.Bytes() <= chargeStep {
		return
	}
	r.take(taken)
}

func (r *reply) take(bytes int) {
	if err := r.memory.Set(bytes); err != nil && r.refused == nil {
		r.refused, r.tooLarge = err, true
	}
}

// drain throws a row away.
func (r *reply) drain(s *session.Session, values [][]byte) {
	r.tooLarge = true
	r.drained += rows.Sent(values)
	if r.drained < drainLimit || r.canceled {
		return
	}
	r.canceled = true
	s.Cancel(context.Background()) // then the rest is read to its end
}

const resultsOpen = `{"results":[`

// list returns the results so far as a JSON array, which shares the body's
// memory.
func (r *reply) list() []byte {
	if !r.started {
		return []byte("[]")
	}
	return append(r.body[len(resultsOpen)-1:], ']')
}

// finish completes the body, once.
func (r *reply) finish(n *session.Notices, attempts int) []byte {
	if r.finished {
		return r.body
	}
	r.finished = true
	r.body = append(r.body, ']')
	if notices := n.Fitting(r.limit - len(r.body)); len(notices) > 0 {
		r.body = append(r.body, `,"notices":[`...)
		r.body = append(r.body, notices...)
		r.body = append(r.body, ']')
	}
	r.body = append(r.body, `,"attempts":`...)
	r.body = strconv.AppendInt(r.body, int64(attempts), 10)
	r.body = append(r.body, '}')
	return r.body
}

// pending is the rows of a result whose types have to be looked up, which can only
// be done when all results were read.
type pending struct {
	at     int // in the body
	fields []pgconn.FieldDescription
	rows   [][][]byte
}

func sameFields(a, b []pgconn.FieldDescription) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].DataTypeOID != b[i].DataTypeOID || a[i].Name != b[i].Name {
			return false
		}
	}
	return true
}
