package cursors

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/session"
)

// batch are rows on their way from PostgreSQL to a page.
type batch struct {
	c         *cursor
	p         *page
	direction direction
	asked     int64

	n       int64 // rows that came
	largest int   // of them, in bytes
	fitted  int   // rows on the page before
	before  int   // length of the page before
}

// execute reads forward.
func (b *batch) execute(ctx context.Context, w *execution.Execution) error {
	if err := w.Ask(ctx, b.c.name, int(b.asked)); err != nil {
		return err
	}
	b.c.sent = false
	ended, err := w.Take(ctx, session.RowHandler{Fields: b.c.same, Row: b.row})
	if err = b.c.refused(w, err); err == nil {
		b.end(ended)
	}
	return err
}

// fetchBackward reads backward, which a portal cannot by itself.
func (b *batch) fetchBackward(ctx context.Context, w *execution.Execution) error {
	err := b.c.send(ctx, w, fmt.Sprintf("FETCH BACKWARD %d FROM %s", b.asked, b.c.quoted), b.read)
	if err != nil {
		return err
	}
	return b.c.sync(ctx, w)
}

func (b *batch) read(from *session.Result) error {
	for from.NextRow() {
		b.row(from.Values())
	}
	if _, err := from.Close(); err != nil {
		return err
	}
	b.end(b.n < b.asked)
	return nil
}

// row puts one row where it belongs.
func (b *batch) row(values [][]byte) {
	b.n++
	b.largest = max(b.largest, rows.Sent(values))
	number := b.c.at.server + b.n
	if b.direction == backward {
		number = b.c.at.server - b.n
	}
	if b.p.offer(b.c.encode, values) != left {
		b.c.at = b.c.at.answered(number)
	} else if !b.c.at.scroll {
		b.c.ahead.add(b.c.encode, values)
	}
}

// end notes what came.
func (b *batch) end(ended bool) {
	if fitted := b.p.rows - b.fitted; fitted > 0 {
		b.c.sizes.learn(fitted, len(b.p.body)-b.before, b.largest)
	} else {
		b.c.sizes.learn(int(min(b.n, 1)), b.largest, b.largest)
	}
	b.c.at = b.c.at.fetched(b.direction, b.n, ended)
	if ended && !b.p.cut && !b.p.refused {
		b.c.at = b.c.at.caughtUp()
	}
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
func (c *cursor) refused(w *execution.Execution, err error) error {
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

// read reads k rows into the page, or those that there are.
func (c *cursor) read(ctx context.Context, w *execution.Execution, d direction, k int64, p *page) error {
	b := &batch{c: c, p: p, direction: d, asked: k, fitted: p.rows, before: len(p.body)}
	var err error
	if d == backward {
		err = b.fetchBackward(ctx, w)
	} else {
		err = b.execute(ctx, w)
	}
	if err == nil && c.ahead.lost {
		return errGrown
	}
	return err
}
