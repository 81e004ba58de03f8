package cursors

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/txrunner"
)

// portion are rows on their way from PostgreSQL to a page.
type portion struct {
	c         *cursor
	p         *page
	direction kind
	asked     int64

	n       int64 // rows that came
	largest int   // of them, in bytes
	fitted  int   // rows on the page before
	before  int   // length of the page before
}

// execute reads forward.
func (o *portion) execute(ctx context.Context, w *txrunner.Work) error {
	if err := w.Ask(ctx, o.c.name, int(o.asked)); err != nil {
		return err
	}
	o.c.sent = false
	ended, err := w.Take(ctx, txrunner.Portion{Fields: o.c.same, Row: o.row})
	if err = o.c.refused(w, err); err == nil {
		o.end(ended)
	}
	return err
}

// fetch reads backward, which a portal cannot by itself.
func (o *portion) fetch(ctx context.Context, w *txrunner.Work) error {
	err := o.c.send(ctx, w, fmt.Sprintf("FETCH BACKWARD %d FROM %s", o.asked, o.c.quoted), o.read)
	if err != nil {
		return err
	}
	return o.c.sync(ctx, w)
}

func (o *portion) read(from *pgconn.ResultReader) error {
	for from.NextRow() {
		o.row(from.Values())
	}
	if _, err := from.Close(); err != nil {
		return err
	}
	o.end(o.n < o.asked)
	return nil
}

// row puts one row where it belongs.
func (o *portion) row(values [][]byte) {
	o.n++
	o.largest = max(o.largest, rawSize(values))
	number := o.c.server + o.n
	if o.direction == backward {
		number = o.c.server - o.n
	}
	switch o.p.offer(o.c.encode, values) {
	case taken:
		o.c.pos = number
	case never:
		o.c.pos, o.p.refused = number, number
	case left:
		if !o.c.scroll {
			o.c.held.add(o.c.encode, values)
		}
	}
}

// end notes what came.
func (o *portion) end(ended bool) {
	if fitted := o.p.rows - o.fitted; fitted > 0 {
		o.c.sizes.learn(fitted, len(o.p.body)-o.before, o.largest)
	} else {
		o.c.sizes.learn(int(min(o.n, 1)), o.largest, o.largest)
	}
	o.c.arrive(o.direction, o.n, ended, o.p.cut || o.p.refused > 0)
}

// same refuses columns that are not those that were described.
func (c *cursor) same(fields []pgproto3.FieldDescription) error {
	if len(fields) != len(c.fields) {
		return errChanged
	}
	for i, f := range fields {
		if string(f.Name) != c.fields[i].Name || f.DataTypeOID != c.fields[i].DataTypeOID {
			return errChanged
		}
	}
	return nil
}

// refused marks a cursor that PostgreSQL has refused to go on with.
func (c *cursor) refused(w *txrunner.Work, err error) error {
	var report *pgconn.PgError
	if !errors.As(err, &report) {
		return err
	}
	c.failed = true
	if err != error(report) { // it knows its place
		return err
	}
	return w.Refused(c.query("", nil), err)
}
