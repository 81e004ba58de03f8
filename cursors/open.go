package cursors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// serveOpen answers a request to open a cursor.
func (r *registry) serveOpen(ctx context.Context, task *pinned.Task) {
	reply, err := r.openCursor(ctx, task)
	task.Request.Answer(reply, err)
}

func (r *registry) openCursor(ctx context.Context, task *pinned.Task) (service.Reply, error) {
	o, err := readOpening(task.Fields, task.ReplyLimit())
	if err != nil {
		return service.Reply{}, err
	}
	own := task.Own()
	if _, err := task.Begin(ctx); err != nil {
		return service.Reply{}, err
	}
	s := r.of(task.Transaction(), own, task.Request)
	var body []byte
	err = task.Do(ctx, func(ctx context.Context, w *execution.Execution) error {
		defer s.untold.hear(w)
		defer s.settle()
		body, err = s.open(ctx, w, task, o)
		return err
	})
	if err == nil {
		body = s.untold.tell(body, task.ReplyLimit())
	}
	return service.Reply{Header: s.tx.Header(), Data: body}, err
}

// open runs the script's statements but for the last, and opens that one.
func (s *set) open(ctx context.Context, w *execution.Execution, task *pinned.Task, o opening) ([]byte, error) {
	if err := s.look(ctx, w); err != nil {
		return nil, err
	}
	if err := s.name(&o); err != nil {
		return nil, err
	}
	if o.hold {
		if err := w.MayHold(); err != nil {
			return nil, err
		}
	}
	last := len(task.Script().Statements) - 1
	if last > 0 {
		if err := s.tx.RunsScript(ctx, w); err != nil {
			return nil, err
		}
	}
	if err := w.Statements(ctx, 0, last, true); err != nil {
		return nil, err
	}
	s.drift()
	described, err := w.Describe(ctx, last)
	switch {
	case err != nil:
		return nil, err
	case returnsCursors(described.Fields):
		return s.adopt(ctx, w, task, o, described)
	case !task.Script().Cursorable():
		return nil, errNoQuery()
	}
	body, err := s.declare(ctx, w, task, o, described)
	if errors.Is(err, errChanged) || errors.Is(err, errGrown) {
		body, err = s.declareAgain(ctx, w, task, o)
	}
	switch {
	case errors.Is(err, errChanged):
		return nil, s.abandon(ctx, w, task, o, service.Errorf(service.CodeConflict, "the result's columns change again and again"))
	case errors.Is(err, errGrown):
		return nil, s.abandon(ctx, w, task, o, service.Errorf(service.CodeBusy, "the rows take more memory than requests have now"))
	}
	return body, err
}

// abandon closes the cursor in PostgreSQL that nobody has been told of, and returns why.
func (s *set) abandon(ctx context.Context, w *execution.Execution, task *pinned.Task, o opening, why error) error {
	if err := s.drop(ctx, w, newCursor(o.name, task, o.scroll)); err != nil {
		return err
	}
	return why
}

// name finds a name for the cursor, and refuses one that is taken.
func (s *set) name(o *opening) error {
	for o.name == "" || !o.named && s.cursors[o.name] != nil {
		s.names++
		o.name = fmt.Sprintf("c%d", s.names)
	}
	if err := s.room(1); err != nil {
		return err
	}
	if s.cursors[o.name] != nil {
		return service.Errorf(service.CodeInvalidRequest, "field \"name\": the transaction has a cursor %q already", o.name)
	}
	return nil
}

// declare opens a cursor and reads its first page, in one round trip if the
// page does not turn out to be larger than expected.
func (s *set) declare(ctx context.Context, w *execution.Execution, task *pinned.Task, o opening, d execution.Described) ([]byte, error) {
	c := newCursor(o.name, task, o.scroll)
	c.ahead.room, c.ahead.most = s.memory.grow, batchBytes // with more, fewer rows are asked for
	c.hold = o.hold
	if c.sizes = o.sizes; c.sizes == (sizes{}) {
		c.sizes = s.sizes.of(task.Script().Name)
	}
	if d.Columns == nil { // SELECT FROM has none
		d.Columns = w.Known(d.Fields)
	}
	c.describe(d.Fields, d.Columns)
	header := s.opened(c)
	if len(header)+pageEnd > task.ReplyLimit() {
		return nil, service.Errorf(service.CodeTooLarge, "the names of %d columns do not fit one message", len(d.Fields))
	}
	page := 0
	if o.count > 0 {
		page = o.bytes
	}
	if err := s.reserve(c, page); err != nil {
		return nil, err
	}
	s.cursors[c.name] = c
	if err := w.Send(ctx, c.declaration(d)); err != nil {
		return nil, err
	}
	c.sent = true
	p := c.newPage(header, o.bytes)
	p.opening = true
	done := false
	var err error
	if o.count > 0 {
		done, err = c.fetch(ctx, w, move{forward, o.count}, p)
	} else {
		err = c.sync(ctx, w)
	}
	if err != nil {
		delete(s.cursors, c.name)
		return nil, err
	}
	c.ahead.most = maxAhead // they cannot be asked for again from now on
	c.answers(p)
	c.keep(p.body)
	s.sizes.remember(task.Script().Name, c.sizes)
	s.metrics.opened.Inc()
	s.metrics.paged(p.rows)
	s.tellHeld()
	return p.finish(done), s.endIfOver(ctx, w)
}

// declareAgain opens a cursor once more after it was found to be another than
// it seemed: its columns have changed, or its rows grown. Nobody has seen
// anything of it yet.
func (s *set) declareAgain(ctx context.Context, w *execution.Execution, task *pinned.Task, o opening) ([]byte, error) {
	if err := s.drop(ctx, w, newCursor(o.name, task, o.scroll)); err != nil {
		return nil, err
	}
	last := len(task.Script().Statements) - 1
	w.Forget(last)
	described, err := w.Describe(ctx, last)
	if err != nil {
		return nil, err
	}
	o.sizes = sizes{average: task.ReplyLimit(), largest: task.ReplyLimit()} // as few as can be are asked for
	return s.declare(ctx, w, task, o, described)
}

// declaration is the statement that opens a cursor over the script's last one.
func (c *cursor) declaration(d execution.Described) session.Query {
	start := "DECLARE " + c.quoted
	if !c.at.scroll {
		start += " NO"
	}
	start += " SCROLL CURSOR"
	if c.hold {
		start += " WITH HOLD"
	}
	start += " FOR "
	statements := c.task.Script().Statements
	i := len(statements) - 1
	c.sql = start + statements[i].SQL
	return session.Query{
		SQL: c.sql, Params: d.Params, Statement: i,
		Locate: func(position int) script.Place {
			return statements[i].Locate(position - utf8.RuneCountInString(start))
		},
	}
}

// opened is the beginning of the reply to the request that opened a cursor.
func (s *set) opened(c *cursor) string {
	b := append([]byte(`{"tx":`), quote(s.tx.Subject())...)
	b = append(b, `,"cursor":`...)
	b = append(b, quote(c.name)...)
	b = append(b, `,"columns":`...)
	b = c.columns.AppendHeader(b)
	return string(append(b, `,"rows":[`...))
}

// accepts refuses scripts of which it is clear that they open no cursor: only a
// query does, or a CALL that returns refcursors.
func accepts(s *script.Script) *service.Error {
	if s.Cursorable() || s.Kind == script.Run && calls(s.Statements[len(s.Statements)-1].Text) {
		return nil
	}
	return errNoQuery()
}

func calls(sql string) bool { return len(sql) > 4 && strings.EqualFold(sql[:4], "call") }

func errNoQuery() *service.Error {
	return service.Errorf(service.CodeInvalidRequest,
		"a cursor needs a last statement that is a query (SELECT, VALUES, TABLE, WITH) or returns refcursors")
}
