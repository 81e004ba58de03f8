package cursors

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// unknown is a position, or a number of rows, that is not known.
const unknown = -1

var (
	errChanged = errors.New("a cursor's columns are not those that were described")
	errGrown   = errors.New("rows beyond the page take too much memory")
)

// cursor is an open cursor. It is used in its transaction's turns only.
type cursor struct {
	name   string
	quoted string
	sql    string // as pg_cursors shows it
	task   *txrunner.Task
	scroll bool
	hold   bool
	failed bool // by a statement that PostgreSQL refused: it cannot be read on

	fields  []pgconn.FieldDescription
	columns *rows.Columns
	encode  encoder

	pos    int64 // the client's position
	server int64 // PostgreSQL's
	last   int64 // the number of rows
	moved  int64 // rows that the last move went over
	held   held
	sizes  sizes

	sent     bool   // something since the last sync
	buffer   []byte // of the last page
	answered answered
}

// answered is the page that was answered last.
type answered struct {
	number int64 // of the client's; 0: none
	body   []byte
	err    error
}

func newCursor(name string, task *txrunner.Task) *cursor {
	return &cursor{
		name: name, quoted: pgx.Identifier{name}.Sanitize(), task: task,
		last: unknown, held: held{maxRow: task.ReplyLimit() - len(pageStart) - pageEnd},
	}
}

// describe sets the columns as the client wants their values.
func (c *cursor) describe(fields []pgconn.FieldDescription, columns *rows.Columns) {
	c.fields = append([]pgconn.FieldDescription(nil), fields...)
	c.columns = c.task.Format(columns)
	c.encode = c.columns.AppendRow
	if c.task.Objects() {
		c.encode = c.columns.AppendObject
	}
}

// newPage begins a page in the cursor's buffer, which ends the last one.
func (c *cursor) newPage(start string, soft int) *page {
	hard := c.task.ReplyLimit()
	c.answered = answered{}
	return &page{body: append(c.buffer[:0], start...), soft: min(soft, hard), hard: hard}
}

// keptBytes is the largest page whose memory an idle cursor keeps.
const keptBytes = 256 << 10

// keep lets the next page use a page's memory again.
func (c *cursor) keep(body []byte) {
	c.buffer = nil
	if cap(body) <= keptBytes {
		c.buffer = body
	}
}

func (c *cursor) atEnd() bool { return c.last >= 0 && c.pos > c.last }

// onRow reports whether the client's position is on a row.
func (c *cursor) onRow() bool { return c.pos > 0 && !c.atEnd() }

// send sends a statement about the cursor.
func (c *cursor) send(ctx context.Context, w *txrunner.Work, sql string, read func(*pgconn.ResultReader) error) error {
	c.sent = true
	return w.Send(ctx, c.query(sql, read))
}

// query is such a statement; what PostgreSQL refuses in it is a fault of the
// script's last statement.
func (c *cursor) query(sql string, read func(*pgconn.ResultReader) error) txrunner.Query {
	statements := c.task.Script().Statements
	i := len(statements) - 1
	return txrunner.Query{SQL: sql, Read: read, Statement: i, Locate: statements[i].Locate}
}

// sync waits for what was sent, if anything was. An error of PostgreSQL's ends
// the cursor.
func (c *cursor) sync(ctx context.Context, w *txrunner.Work) error {
	if !c.sent {
		return nil
	}
	c.sent = false
	err := w.Sync(ctx)
	var report *pgconn.PgError
	c.failed = c.failed || errors.As(err, &report)
	return err
}

// seek sends what brings PostgreSQL to a position that exists. Only a cursor
// with scroll needs it.
func (c *cursor) seek(ctx context.Context, w *txrunner.Work, target int64) error {
	from := c.server
	c.server = target
	switch {
	case from == target:
		return nil
	case c.last >= 0 && target > c.last:
		return c.send(ctx, w, "MOVE FORWARD ALL FROM "+c.quoted, nil)
	case from >= 0 && target > from:
		return c.step(ctx, w, target-from)
	}
	first := min(target, math.MaxInt32)
	if err := c.send(ctx, w, fmt.Sprintf("MOVE ABSOLUTE %d FROM %s", first, c.quoted), nil); err != nil {
		return err
	}
	return c.step(ctx, w, target-first)
}

// step sends a move forward over rows that exist.
func (c *cursor) step(ctx context.Context, w *txrunner.Work, n int64) error {
	for n > 0 {
		some := min(n, math.MaxInt32)
		if err := c.send(ctx, w, fmt.Sprintf("MOVE FORWARD %d FROM %s", some, c.quoted), nil); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// run reads up to n rows into the page, and stops where it is full.
func (c *cursor) run(ctx context.Context, w *txrunner.Work, direction kind, n int64, p *page) error {
	if c.scroll {
		if err := c.seek(ctx, w, c.pos); err != nil {
			return err
		}
	} else {
		n -= c.unhold(n, p)
	}
	for n > 0 && !p.full {
		k := c.sizes.portion(n, p.room(), c.held.maxRow)
		if err := c.read(ctx, w, direction, k, p); err != nil {
			return err
		}
		if direction == forward && c.atEnd() || direction == backward && c.pos == 0 {
			break
		}
		n -= k
	}
	if p.refused > 0 {
		return tooLarge(p.refused)
	}
	return nil
}

// read reads k rows, unless it is known that there are none.
func (c *cursor) read(ctx context.Context, w *txrunner.Work, direction kind, k int64, p *page) error {
	o := &portion{c: c, p: p, direction: direction, asked: k, fitted: p.rows, before: len(p.body)}
	var err error
	switch {
	case direction == backward:
		err = o.fetch(ctx, w)
	case c.last >= 0 && c.server > c.last: // what was held was the rest
		c.pos = c.server
		return c.sync(ctx, w)
	default:
		err = o.execute(ctx, w)
	}
	if err == nil && c.held.lost {
		return errGrown
	}
	return err
}

// arrive notes where PostgreSQL is after n rows, and so is the client unless
// rows were left.
func (c *cursor) arrive(direction kind, n int64, ended, cut bool) {
	switch {
	case direction == forward && c.last >= 0 && c.server > c.last: // it was there before
	case direction == forward && ended:
		c.last = c.server + n
		c.server = c.last + 1
	case direction == forward:
		c.server += n
	case ended:
		c.server = 0
	default:
		c.server -= n
	}
	if ended && !cut {
		c.pos = c.server
	}
}

// unhold puts up to n of the rows that are held into the page.
func (c *cursor) unhold(n int64, p *page) (served int64) {
	for served < n && c.held.len() > 0 {
		switch p.offerEncoded(c.held.first()) {
		case left:
			return served
		case never:
			p.refused = c.pos + 1
		}
		served++
		c.pos++
		c.held.drop(1)
	}
	return served
}

// tooLarge is the error for a row that the cursor stands on.
func tooLarge(row int64) error {
	failure := service.Errorf(service.CodeTooLarge, "row %d does not fit one message", row)
	failure.Row = row
	return failure
}
