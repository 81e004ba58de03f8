package execution

import (
	"context"
	"errors"
	"slices"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

const (
	sweepCursor = "pgbridge_sweep"
	// sweepRows is how many rows are asked for at a time.
	sweepRows = 256
)

// reading returns the program as one that cannot write.
func (p *Program) reading() *Program {
	reader, yes := *p, true
	modes := ModesOf(p.Script.Settings)
	modes.ReadOnly = &yes
	reader.begin, reader.ReadOnly = modes.Begin(), true
	return &reader
}

// Sweep runs a call in a transaction of its own that cannot write, and hands out the
// rows of its last statement, a query, one by one as PostgreSQL sends them: the text of
// the only column, or an object of several. It blocks until the deadline at most, when the
// context of a row that is being handed out ends. What row is given is valid until it returns; its error ends the sweep
// and is returned as it is. Other errors are for the client; then some rows may have been
// handed out. Of a row that is much longer than most bytes, which nobody takes, no more is
// handed out than shows that.
func Sweep(ctx context.Context, pool *session.Pool, c *Call, most int, row func(context.Context, []byte) error) error {
	ctx, cancel := context.WithDeadline(ctx, c.Deadline)
	defer cancel()
	free, err := c.Program.Slot(ctx, c.Owner)
	if err != nil {
		return err
	}
	defer free()
	s, err := Acquire(ctx, pool, c.Owner, session.NoClient)
	if err != nil {
		return err
	}
	defer s.GiveBack(false)
	reader := *c
	reader.Program = c.Program.reading()
	x := newExecution(&reader, s, 1, maxDropped, nil)
	defer x.Close()
	w := sweep{Execution: x, most: most, row: func(payload []byte) error { return row(ctx, payload) }}
	err = w.once(ctx)
	for n := 0; n < maxStale && err != nil && w.refused == nil && x.stale(ctx, err); n++ {
		state := postgres.SQLState(err)
		s.Refresh(ctx, c.Program.Script, state == stateUnknownStatement || state == stateStatementExists)
		err = w.once(ctx)
	}
	switch {
	case w.refused != nil && errors.Is(w.refused, context.DeadlineExceeded):
		return service.Errorf(service.CodeTimeout, "the time ran out")
	case w.refused != nil:
		return w.refused
	case err != nil:
		return x.Fail(ctx, err)
	}
	return nil
}

// maxDropped is a limit for results that nobody wants.
const maxDropped = 1 << 20

// sweep is an execution whose rows go one by one.
type sweep struct {
	*Execution
	most    int // bytes of a row that somebody takes
	row     func([]byte) error
	refused error // by row
	fields  []pgconn.FieldDescription
	columns *rows.Columns
	buffer  []byte
}

// once runs the statements, and leaves the session outside a transaction.
func (w *sweep) once(ctx context.Context) error {
	w.reply.restart()
	w.session.Notices.Reset()
	w.started, w.committing, w.committed = false, false, false
	w.session.Clean(ctx)
	err := w.all(ctx)
	w.pipeline.Drain(ctx, w.read)
	w.pipeline.Close()
	if err != nil {
		w.session.Rollback(ctx)
	}
	return err
}

func (w *sweep) all(ctx context.Context) error {
	last := len(w.call.Program.Script.Statements) - 1
	if err := w.Statements(ctx, 0, last, true); err != nil {
		return err
	}
	d, err := w.Describe(ctx, last)
	if err != nil {
		return err
	}
	w.fields = d.Fields
	if w.columns = d.Columns; w.columns == nil { // SELECT FROM has none
		w.columns = w.Known(d.Fields)
	}
	if err := w.Send(ctx, w.declaration(last, d)); err != nil {
		return err
	}
	w.executed = true
	for ended := false; !ended; {
		if err := w.Ask(ctx, sweepCursor, sweepRows); err != nil {
			return err
		}
		if ended, err = w.Take(ctx, session.RowHandler{Fields: w.recognize, Row: w.take}); err != nil {
			return w.Refused(w.query(last, ""), err)
		}
		if w.refused != nil {
			return w.refused
		}
	}
	return w.Commit(ctx, nil)
}

// recognize refuses rows of another kind than was described.
func (w *sweep) recognize(got []pgproto3.FieldDescription) error {
	same := slices.EqualFunc(got, w.fields, func(a pgproto3.FieldDescription, b pgconn.FieldDescription) bool {
		return string(a.Name) == b.Name && a.DataTypeOID == b.DataTypeOID
	})
	if same {
		return nil
	}
	w.Forget(len(w.call.Program.Script.Statements) - 1)
	return errStale
}

func (w *sweep) declaration(i int, d Described) session.Query {
	start := "DECLARE " + sweepCursor + " NO SCROLL CURSOR FOR "
	q := w.query(i, start)
	q.Params = d.Params
	return q
}

// query is the script's statement behind something, so that the place of an error can be
// told.
func (w *sweep) query(i int, start string) session.Query {
	statement := &w.call.Program.Script.Statements[i]
	return session.Query{SQL: start + statement.SQL, Statement: i, Locate: func(position int) script.Place {
		return statement.Locate(position - utf8.RuneCountInString(start))
	}}
}

// take hands a row out. Behind a refusal the rest is thrown away.
func (w *sweep) take(values [][]byte) {
	if w.refused != nil {
		return
	}
	payload := w.buffer[:0]
	switch {
	case larger(values, 2*w.most):
		payload = append(payload, make([]byte, w.most+1)...)
	case len(values) == 1:
		payload = append(payload, values[0]...)
	default:
		payload = w.columns.AppendObject(payload, values)
	}
	w.buffer = payload
	w.refused = w.row(payload)
}
