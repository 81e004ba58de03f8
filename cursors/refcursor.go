package cursors

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// returnsCursors reports whether a statement returns refcursors and nothing
// else.
func returnsCursors(fields []pgconn.FieldDescription) bool {
	for _, f := range fields {
		if f.DataTypeOID != refcursorOID {
			return false
		}
	}
	return len(fields) > 0
}

const refcursorOID = 1790 // of pg_type.dat

// adopt runs the script's last statement and takes over the cursors whose names
// it returns.
func (s *set) adopt(ctx context.Context, w *execution.Execution, task *pinned.Task, o opening, d execution.Described) ([]byte, error) {
	if o.named || o.scroll || o.hold {
		return nil, service.Errorf(service.CodeInvalidRequest,
			"the script opens its cursors itself: the fields \"name\", \"scroll\" and \"hold\" say nothing here")
	}
	if err := s.tx.RunsScript(ctx, w); err != nil {
		return nil, err
	}
	names, err := s.refcursors(ctx, w, task, d)
	if err != nil {
		return nil, err
	}
	s.drift()
	there, err := listCursors(ctx, w, func(name string) bool { return slices.Contains(names, name) })
	if err != nil {
		return nil, err
	}
	body := append([]byte(`{"tx":`), quote(s.tx.Subject())...)
	body = append(body, `,"cursors":[`...)
	for i, name := range names {
		p, ok := there[name]
		if !ok {
			return nil, service.Errorf(service.CodeNotFound, "the script returned the name of a cursor that is not open: %q", name)
		}
		c := newCursor(name, task, p.scroll)
		c.ahead.room = s.memory.grow
		c.sql, c.hold = p.sql, p.hold
		if i > 0 { // one request has opened them all
			c.brought = 0
		}
		if err := s.reserve(c, 0); err != nil {
			return nil, err
		}
		if err := c.inspect(ctx, w); err != nil {
			return nil, err
		}
		s.cursors[name] = c
		s.metrics.opened.Inc()
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"cursor":`...)
		body = append(body, quote(name)...)
		body = append(body, `,"columns":`...)
		body = append(c.columns.AppendHeader(body), '}')
	}
	if body = append(body, "]}"...); len(body) > task.ReplyLimit() {
		return nil, service.Errorf(service.CodeTooLarge, "%d cursors do not fit one message", len(names))
	}
	s.tellHeld()
	return body, s.endIfOver(ctx, w)
}

// refcursors runs the script's last statement and returns the values in its
// result that are not NULL, each once. It refuses more than there may be.
func (s *set) refcursors(ctx context.Context, w *execution.Execution, task *pinned.Task, d execution.Described) ([]string, error) {
	last := len(task.Script().Statements) - 1
	statement := &task.Script().Statements[last]
	var names []string
	err := w.Send(ctx, session.Query{
		SQL: statement.SQL, Params: d.Params, Statement: last, Locate: statement.Locate,
		Read: func(r *session.Result) error {
			for r.NextRow() {
				for _, v := range r.Values() {
					if v == nil || slices.Contains(names, string(v)) {
						continue
					}
					if len(v) > maxNameBytes { // PostgreSQL cuts longer ones
						return service.Errorf(service.CodeNotFound, "the script returned a name of %d bytes, which no cursor has", len(v))
					}
					names = append(names, string(v))
					if err := s.room(len(names)); err != nil {
						return err
					}
				}
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return names, w.Sync(ctx)
}

// inspect finds out what columns a cursor has that a function opened, and where
// it stands. Without scroll PostgreSQL does not tell: then it is counted from
// there.
func (c *cursor) inspect(ctx context.Context, w *execution.Execution) error {
	fetch := "FETCH NEXT FROM " + c.quoted
	fields, columns, err := w.Inspect(ctx, c.query(fetch, nil))
	if err != nil {
		return err
	}
	c.describe(fields, columns)
	if !c.at.scroll {
		return nil
	}
	if err := c.count(ctx, w); err != nil {
		return err
	}
	if err := c.moveTo(ctx, w, c.at.client); err != nil {
		return err
	}
	return c.sync(ctx, w)
}
