package txrunner

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
)

const (
	// replyReserve is kept free in a message for its headers and the end of
	// its body.
	replyReserve = 1 << 10
	// drainLimit is how much of a result that is too large is read and thrown
	// away before PostgreSQL is asked to stop.
	drainLimit = 8 << 20
)

// format is how a client wants its rows.
type format struct {
	objects  bool // rows as objects instead of arrays
	quoteBig bool // int8 and numeric as strings
}

// result is the body of a reply in the making.
type result struct {
	body     []byte
	limit    int // of the body's length
	format   format
	started  bool
	finished bool
	tooLarge bool
	canceled bool // because it was too large
	drained  int  // bytes
	dropped  bool // what comes is not wanted
}

// restart makes the result an empty one again.
func (r *result) restart() {
	*r = result{body: r.body[:0], limit: r.limit, format: r.format}
}

// add appends the result of one statement; columns is nil where it returns no
// rows.
func (r *result) add(conn *pgconn.PgConn, columns *rows.Columns, from *pgconn.ResultReader) error {
	if r.dropped {
		_, _ = from.Close() // the flow sees an error too
		return nil
	}
	if r.started {
		r.body = append(r.body, ",{"...)
	} else {
		r.body = append(r.body, resultsOpen+"{"...)
		r.started = true
	}
	if columns != nil {
		r.addRows(conn, columns, from)
		r.body = append(r.body, ',')
	}
	tag, err := from.Close()
	if err != nil && !r.canceled {
		return nil // the flow sees it too
	}
	if r.tooLarge || len(r.body) > r.limit {
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

func (r *result) addRows(conn *pgconn.PgConn, columns *rows.Columns, from *pgconn.ResultReader) {
	if r.format.quoteBig {
		columns = columns.QuoteBigNumbers()
	}
	appendRow := columns.AppendRow
	if r.format.objects {
		appendRow = columns.AppendObject
	}
	r.body = append(r.body, `"columns":`...)
	r.body = columns.AppendHeader(r.body)
	r.body = append(r.body, `,"rows":[`...)
	for first := true; from.NextRow(); first = false {
		if r.tooLarge || len(r.body) > r.limit {
			r.drain(conn, from.Values())
			continue
		}
		if !first {
			r.body = append(r.body, ',')
		}
		r.body = appendRow(r.body, from.Values())
	}
	r.body = append(r.body, ']')
}

// drain throws a row away.
func (r *result) drain(conn *pgconn.PgConn, values [][]byte) {
	r.tooLarge = true
	for _, v := range values {
		r.drained += len(v)
	}
	if r.drained < drainLimit || r.canceled {
		return
	}
	r.canceled = true
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	_ = conn.CancelRequest(ctx) // then the rest is read to its end
}

const resultsOpen = `{"results":[`

// list returns the results so far as a JSON array, which shares the body's
// memory.
func (r *result) list() []byte {
	if !r.started {
		return []byte("[]")
	}
	return append(r.body[len(resultsOpen)-1:], ']')
}

// finish completes the body, once.
func (r *result) finish(n *notices, attempts int) []byte {
	if r.finished {
		return r.body
	}
	r.finished = true
	r.body = append(r.body, ']')
	if len(n.json) > 0 && len(r.body)+len(n.json) < r.limit {
		r.body = append(r.body, `,"notices":[`...)
		r.body = append(r.body, n.json...)
		r.body = append(r.body, ']')
	}
	r.body = append(r.body, `,"attempts":`...)
	r.body = strconv.AppendInt(r.body, int64(attempts), 10)
	r.body = append(r.body, '}')
	return r.body
}
