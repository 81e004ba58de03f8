package cursors

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
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

// portal is a cursor as pg_cursors shows it.
type portal struct {
	sql    string
	scroll bool
	hold   bool
}

const portalsSQL = "SELECT name, statement, is_scrollable, is_holdable FROM pg_catalog.pg_cursors"

// listCursors returns the cursors that the transaction has, by name.
func listCursors(ctx context.Context, w *txrunner.Work) (map[string]portal, error) {
	there := make(map[string]portal)
	err := w.Send(ctx, txrunner.Query{SQL: portalsSQL, Read: func(r *pgconn.ResultReader) error {
		for r.NextRow() {
			v := r.Values()
			there[string(v[0])] = portal{string(v[1]), string(v[2]) == "t", string(v[3]) == "t"}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return there, w.Sync(ctx)
}

// adopt runs the script's last statement and takes over the cursors whose names
// it returns.
func (s *set) adopt(ctx context.Context, w *txrunner.Work, task *txrunner.Task, o opening, d txrunner.Described) ([]byte, error) {
	if o.named || o.scroll || o.hold {
		return nil, service.Errorf(service.CodeInvalidRequest,
			"the script opens its cursors itself: the fields \"name\", \"scroll\" and \"hold\" say nothing here")
	}
	names, err := refcursors(ctx, w, task, d)
	if err != nil {
		return nil, err
	}
	if err := s.room(len(names)); err != nil {
		return nil, err
	}
	there, err := listCursors(ctx, w)
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
		c := newCursor(name, task)
		c.sql, c.scroll, c.hold = p.sql, p.scroll, p.hold
		if err := c.inspect(ctx, w); err != nil {
			return nil, err
		}
		s.cursors[name] = c
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
// result that are not NULL, each once.
func refcursors(ctx context.Context, w *txrunner.Work, task *txrunner.Task, d txrunner.Described) ([]string, error) {
	last := len(task.Script().Statements) - 1
	statement := &task.Script().Statements[last]
	var names []string
	err := w.Send(ctx, txrunner.Query{
		SQL: statement.SQL, Params: d.Params, ParamOIDs: d.ParamOIDs, Statement: last, Locate: statement.Locate,
		Read: func(r *pgconn.ResultReader) error {
			for r.NextRow() {
				for _, v := range r.Values() {
					if v != nil && !slices.Contains(names, string(v)) {
						names = append(names, string(v))
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
func (c *cursor) inspect(ctx context.Context, w *txrunner.Work) error {
	fetch := "FETCH NEXT FROM " + c.quoted
	d, err := w.Conn().Prepare(ctx, "", fetch, nil)
	if err != nil {
		return w.Refused(c.query(fetch, nil), err)
	}
	columns, err := w.Columns(ctx, d.Fields)
	if err != nil {
		return err
	}
	c.describe(d.Fields, columns)
	if !c.scroll {
		return nil
	}
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
	if here+before > 0 {
		c.pos = before + 1
	}
	if here == 0 && before > 0 {
		c.last = before
	}
	return c.seekNow(ctx, w)
}

// seekNow brings PostgreSQL to the client's position.
func (c *cursor) seekNow(ctx context.Context, w *txrunner.Work) error {
	if err := c.seek(ctx, w, c.pos); err != nil {
		return err
	}
	return c.sync(ctx, w)
}

func tagOf(n *int64) func(*pgconn.ResultReader) error {
	return func(r *pgconn.ResultReader) error {
		tag, err := r.Close()
		*n = tag.RowsAffected()
		return err
	}
}
