package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
)

// CursorOptions say how a cursor is opened. The zero value is one that is read
// forward, in pages of a thousand rows.
type CursorOptions struct {
	// Name is the cursor's, in SQL too; empty: pgbridge makes one up.
	Name string
	// PageRows is how many rows a page has at most; 0: 1000. A page is one
	// message, so it has fewer where they are large.
	PageRows int
	// PageBytes is how large a page is at most; 0: a message.
	PageBytes int
	// Scroll allows motion backward.
	Scroll bool
	// Hold makes the cursor outlive the Commit of its transaction.
	Hold bool
}

// Cursor reads a script's result page by page, whatever its size. It is for one
// goroutine, and has to be read to its end or closed: until then it occupies a
// connection.
//
// Pages are numbered, so that one whose reply was lost is asked for again and no
// row is lost or comes twice.
type Cursor struct {
	// Name is the cursor's name in SQL.
	Name    string
	Columns []Column

	tx      *Tx
	own     bool // the transaction is the cursor's
	options CursorOptions
	timeout time.Duration // of the script
	first   *Page         // came with the opening, and was not given out
	number  int64         // of the page asked for last
	done    bool          // the end was reached, in the direction of travel
}

// Page is what one message holds.
type Page struct {
	Rows []Row
	// Done says that the end was reached. As long as it is false there may be
	// more; an empty page that is not Done cannot be.
	Done bool
}

const defaultPageRows = 1000

// Cursor opens a cursor over a script's last statement, in a transaction of its
// own, which is committed when the cursor was read to its end or closed. A
// script that opens cursors itself must open exactly one; see [Client.Cursors].
func (c *Client) Cursor(ctx context.Context, s Script, o CursorOptions) (*Cursor, error) {
	cursors, err := c.openCursors(ctx, nil, s, o)
	return one(ctx, cursors, err)
}

// Cursors opens the cursors of a script whose last statement returns refcursors,
// all in one transaction, which ends with the last of them.
func (c *Client) Cursors(ctx context.Context, s Script, o CursorOptions) ([]*Cursor, error) {
	return c.openCursors(ctx, nil, s, o)
}

// Cursor opens a cursor in the transaction.
func (t *Tx) Cursor(ctx context.Context, s Script, o CursorOptions) (*Cursor, error) {
	cursors, err := t.client.openCursors(ctx, t, s, o)
	return one(ctx, cursors, err)
}

// Cursors opens the cursors of a script whose last statement returns refcursors.
func (t *Tx) Cursors(ctx context.Context, s Script, o CursorOptions) ([]*Cursor, error) {
	return t.client.openCursors(ctx, t, s, o)
}

// one returns the only cursor. Others end with their own transaction, or stay
// open in the caller's.
func one(ctx context.Context, cursors []*Cursor, err error) (*Cursor, error) {
	switch {
	case err != nil:
		return nil, err
	case len(cursors) == 1:
		return cursors[0], nil
	}
	for _, c := range cursors {
		if c.own {
			c.tx.discard(ctx)
		}
	}
	return nil, fmt.Errorf("the script opens %d cursors, and this reads one", len(cursors))
}

func (c *Client) openCursors(ctx context.Context, t *Tx, s Script, o CursorOptions) ([]*Cursor, error) {
	if s.MessageID != "" {
		return nil, errNoMessageID
	}
	params, err := s.params()
	if err != nil {
		return nil, err
	}
	a := request.Request{Subject: c.subject("cursor", s.Name), Limit: s.limit(), Body: api.CursorRequest{
		SQL: s.SQL, Params: params, TimeoutMS: millis(s.Timeout), BigNumbers: s.bigNumbers(),
		Name: o.Name, Count: o.rows(), MaxBytes: o.PageBytes, Scroll: o.Scroll, Hold: o.Hold,
	}}
	if t != nil {
		a.Subject, a.InTx = join(t.subject, "cursor", s.Name), true
	}
	m, err := c.exchange(ctx, a)
	if err != nil {
		return nil, err
	}
	var opened api.CursorReply
	if err := decode(m, &opened); err != nil {
		return nil, err
	}
	own := t == nil
	if own {
		if err := checkKey(opened.Tx); err != nil {
			return nil, err
		}
		t = &Tx{client: c, subject: opened.Tx}
	}
	if opened.Cursor != "" {
		page := Page{rows(opened.Rows), opened.Done}
		return []*Cursor{{
			Name: opened.Cursor, Columns: columns(opened.Columns),
			tx: t, own: own, options: o, timeout: s.Timeout, first: &page, done: page.Done,
		}}, nil
	}
	var all []*Cursor
	for _, each := range opened.Cursors {
		all = append(all, &Cursor{
			Name: each.Cursor, Columns: columns(each.Columns), tx: t, own: own, options: o, timeout: s.Timeout,
		})
	}
	return all, nil
}

func (o CursorOptions) rows() int {
	if o.PageRows <= 0 {
		return defaultPageRows
	}
	return o.PageRows
}

// Tx is the transaction that the cursor lives in.
func (c *Cursor) Tx() *Tx { return c.tx }

// Next returns the next page, the first one without asking for it. Behind the
// end it is empty and Done. A row that does not fit a message is an [*Error]
// with its number; the cursor then stands on it, and Next goes on behind it.
func (c *Cursor) Next(ctx context.Context) (*Page, error) {
	if first := c.first; first != nil {
		c.first = nil
		return first, nil
	}
	if c.done && !c.options.Scroll {
		return &Page{Done: true}, nil
	}
	page, err := c.Fetch(ctx, Forward, c.options.rows())
	if err == nil && len(page.Rows) == 0 && !page.Done {
		return nil, errNoRows
	}
	return page, err
}

// errNoRows keeps a loop over pages from going on for ever. A page that pgbridge answers
// has a row, but for the first and the last.
var errNoRows = errors.New("a page in the middle of the cursor has no rows: something else than pgbridge has answered")

// Direction is a way for a cursor to move, as in PostgreSQL's FETCH.
// https://www.postgresql.org/docs/current/sql-fetch.html
type Direction string

// The directions that take a number of rows, or of the row.
const (
	Forward  Direction = "forward"
	Backward Direction = "backward"
	Absolute Direction = "absolute" // to the row with the number; from the end when it is negative
	Relative Direction = "relative"
)

// Fetch reads rows in a direction, from where the cursor stands: behind the
// first page once the cursor is open, given out or not.
func (c *Cursor) Fetch(ctx context.Context, d Direction, count int) (*Page, error) {
	c.first = nil
	c.number++
	m, err := c.ask(ctx, "fetch", true, api.FetchRequest{
		Cursor: c.Name, Direction: string(d), Count: count, MaxBytes: c.options.PageBytes, Page: c.number,
	})
	if err != nil {
		return nil, err
	}
	var page api.FetchReply
	if err := m(&page); err != nil {
		return nil, err
	}
	c.done = page.Done
	return &Page{rows(page.Rows), page.Done}, nil
}

// Move passes over rows and returns how many Fetch would have read. It is not
// sent again where no reply comes: then where the cursor stands is unknown.
func (c *Cursor) Move(ctx context.Context, d Direction, count int) (moved int64, err error) {
	c.first = nil
	m, err := c.ask(ctx, "move", false, api.FetchRequest{Cursor: c.Name, Direction: string(d), Count: count})
	if err != nil {
		return 0, err
	}
	var move api.MoveReply
	if err := m(&move); err != nil {
		return 0, err
	}
	c.done = move.Done
	return move.Moved, nil
}

// ask sends a request about the cursor and returns what reads the reply.
func (c *Cursor) ask(ctx context.Context, verb string, repeatable bool, body any) (read func(any) error, err error) {
	m, err := c.tx.client.exchange(ctx, request.Request{
		Subject: join(c.tx.subject, verb), Body: body, Limit: Script{Timeout: c.timeout}.limit(), InTx: true, Repeatable: repeatable,
	})
	return func(into any) error { return decode(m, into) }, err
}

// Pages reads to the end, page by page. It stops after an error. A loop that is
// left early leaves the cursor open.
func (c *Cursor) Pages(ctx context.Context) iter.Seq2[*Page, error] {
	return func(yield func(*Page, error) bool) {
		for {
			page, err := c.Next(ctx)
			if !yield(page, err) || err != nil || page.Done {
				return
			}
		}
	}
}

// Rows reads to the end, row by row, with a page in memory at a time. It stops
// after an error. A loop that is left early leaves the cursor open, behind the
// page that the row was on.
func (c *Cursor) Rows(ctx context.Context) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for page, err := range c.Pages(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			for _, row := range page.Rows {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// Close closes the cursor, and ends its transaction where that is its own and
// this was its last cursor. Closing a cursor that was read to its end, or whose
// transaction has ended, is no error.
func (c *Cursor) Close(ctx context.Context) error {
	_, err := c.ask(ctx, "close", true, api.CloseRequest{Cursor: c.Name})
	var failure *Error
	if errors.As(err, &failure) && (failure.Code == CodeGone || failure.Code == CodeNotFound) || errors.Is(err, ErrReplicaGone) {
		return nil
	}
	return err
}
