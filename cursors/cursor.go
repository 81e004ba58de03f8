package cursors

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

var (
	errChanged = errors.New("a cursor's columns are not those that were described")
	errGrown   = errors.New("rows beyond the page take too much memory")
)

// cursor is an open cursor.
//
// It and its [set] are used by one goroutine at a time, without a lock: the
// requests on one transaction are served one after the other, and the request
// that opens a transaction is over before anybody knows its subject.
type cursor struct {
	name   string
	quoted string
	sql    string // as pg_cursors shows it
	task   *pinned.Task
	hold   bool
	failed bool // by a statement that PostgreSQL refused: it cannot be read on

	fields  []pgconn.FieldDescription
	columns *rows.Columns
	encode  encoder

	at    position
	ahead readahead
	sizes sizes

	brought int // bytes of the request that has opened it, which stays

	sent   bool   // something since the last sync
	buffer []byte // of the last page
	last   answer

	sentRows, sentBytes int64       // in all pages and chunks
	work                pinned.Work // what people see
}

// answer is the page that was answered last.
type answer struct {
	number int64 // of the client's; 0: none
	body   []byte
	err    error
}

func newCursor(name string, task *pinned.Task, scroll bool) *cursor {
	return &cursor{
		work: pinned.Work{Kind: "cursor", Name: name, Script: task.Script().Name, Begun: time.Now()},
		name: name, quoted: pgx.Identifier{name}.Sanitize(), task: task, at: newPosition(scroll), brought: task.Request.Size(),
		ahead: readahead{maxRow: task.ReplyLimit() - len(pageStart) - pageEnd, most: maxAhead},
	}
}

// describe sets the columns as the client wants their values.
func (c *cursor) describe(fields []pgconn.FieldDescription, columns *rows.Columns) {
	c.fields = append([]pgconn.FieldDescription(nil), fields...)
	c.columns = c.task.Format(columns)
	c.encode = encoder{c.columns, c.task.Objects()}
}

// newPage begins a page in the cursor's buffer, which ends the last one.
func (c *cursor) newPage(start string, soft int) *page {
	hard := c.task.ReplyLimit()
	c.last = answer{}
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

// send sends a statement about the cursor.
func (c *cursor) send(ctx context.Context, w *execution.Execution, sql string, read func(*session.Result) error) error {
	c.sent = true
	return w.Send(ctx, c.query(sql, read))
}

// query is such a statement; what PostgreSQL refuses in it is a fault of the
// script's last statement.
func (c *cursor) query(sql string, read func(*session.Result) error) session.Query {
	statements := c.task.Script().Statements
	i := len(statements) - 1
	return session.Query{SQL: sql, Read: read, Statement: i, Locate: statements[i].Locate}
}

// sync waits for what was sent, if anything was. An error of PostgreSQL's ends
// the cursor.
func (c *cursor) sync(ctx context.Context, w *execution.Execution) error {
	if !c.sent {
		return nil
	}
	c.sent = false
	err := w.Sync(ctx)
	var report *pgconn.PgError
	c.failed = c.failed || errors.As(err, &report)
	return err
}

// move makes a move without rows. It returns how many FETCH would have returned.
func (c *cursor) move(ctx context.Context, w *execution.Execution, m move) (rows int64, done bool, err error) {
	from := c.at
	target, err := c.target(ctx, w, m)
	if err == nil {
		err = c.moveTo(ctx, w, target)
	}
	if err == nil {
		err = c.sync(ctx, w)
	}
	return c.at.rows(m, from), c.at.done(m), err
}

// target is where a move ends if there are rows enough. Where that is counted
// from the end it goes there to find it.
func (c *cursor) target(ctx context.Context, w *execution.Execution, m move) (int64, error) {
	switch {
	case !c.at.adrift || !c.at.scroll || m.direction == forward || m.direction == backward:
	case m.direction == absolute && m.n >= 0:
		if err := c.send(ctx, w, "MOVE ABSOLUTE 0 FROM "+c.quoted, nil); err != nil {
			return 0, err
		}
		c.at = c.at.rewound()
	default:
		if err := c.count(ctx, w); err != nil {
			return 0, err
		}
	}
	if target := c.at.target(m); target != unknown {
		return target, nil
	}
	if err := c.moveTo(ctx, w, all); err != nil {
		return 0, err
	}
	err := c.sync(ctx, w)
	return c.at.target(m), err
}

// count finds out on which row PostgreSQL stands, which leaves it before the
// first.
func (c *cursor) count(ctx context.Context, w *execution.Execution) error {
	var here, before int64
	if err := c.send(ctx, w, "MOVE RELATIVE 0 FROM "+c.quoted, tagOf(&here)); err != nil {
		return err
	}
	if err := c.send(ctx, w, "MOVE BACKWARD ALL FROM "+c.quoted, tagOf(&before)); err != nil {
		return err
	}
	if err := c.sync(ctx, w); err != nil {
		return err
	}
	c.at = c.at.counted(here > 0, before)
	return nil
}

func tagOf(n *int64) func(*session.Result) error {
	return func(r *session.Result) error {
		tag, err := r.Close()
		*n = tag.RowsAffected()
		return err
	}
}

// moveTo sends what brings the client's position and PostgreSQL's to a target.
// Where there are fewer rows it is the end; the next sync tells.
func (c *cursor) moveTo(ctx context.Context, w *execution.Execution, target int64) error {
	if target > c.at.client {
		c.at = c.at.answered(c.at.client + c.ahead.drop(target-c.at.client))
	}
	if c.ahead.len() > 0 {
		return nil
	}
	moves, at, more := c.at.way(target)
	for _, to := range moves {
		if err := c.send(ctx, w, "MOVE "+to+" FROM "+c.quoted, nil); err != nil {
			return err
		}
	}
	c.at = at
	return c.moveOn(ctx, w, more)
}

// moveOn sends MOVEs that may meet the end: forward by n rows, or backward where n
// is negative.
func (c *cursor) moveOn(ctx context.Context, w *execution.Execution, n int64) error {
	d, word := forward, "FORWARD"
	if n < 0 {
		d, word, n = backward, "BACKWARD", -n
	}
	for n > 0 {
		some, count := n, "ALL"
		if n != all {
			some = min(n, math.MaxInt32) // the most that MOVE takes
			count = strconv.FormatInt(some, 10)
		}
		err := c.send(ctx, w, "MOVE "+word+" "+count+" FROM "+c.quoted, func(from *session.Result) error {
			tag, err := from.Close()
			if err == nil {
				c.at = c.at.fetched(d, tag.RowsAffected(), tag.RowsAffected() < some).caughtUp()
			}
			return err
		})
		if err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// tooLarge is the error for a row that the cursor stands on.
func tooLarge(row int64) error {
	failure := service.Errorf(service.CodeTooLarge, "row %d does not fit one message", row)
	failure.Row = row
	return failure
}

// answers counts a page for those who look.
func (c *cursor) answers(p *page) {
	c.sentRows += int64(p.rows)
	c.sentBytes += int64(len(p.body))
}

// tell says how much of the cursor was read.
func (c *cursor) tell() {
	c.work.Rows.Store(c.sentRows)
	c.work.Bytes.Store(c.sentBytes)
}
