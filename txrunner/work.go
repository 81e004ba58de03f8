package txrunner

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// Work is one turn of a [Task] on its transaction's connection. Statements are
// sent in a pipeline: what is sent between two calls of Sync is one round trip.
// Role, caller and time limit are set before the first of them.
type Work struct {
	execution
	task  *Task
	ready bool   // know was called
	asked int    // of portals, and not taken
	ended string // why the transaction is over
}

// Query is a statement that an extension sends.
type Query struct {
	SQL       string
	Params    [][]byte // in the text format, nil for NULL
	ParamOIDs []uint32 // nil: PostgreSQL finds them
	// Read takes the result while Sync runs. Nil means that it is ignored.
	Read func(*pgconn.ResultReader) error
	// Statement is the index of the script's statement that it was made of, for
	// error messages, and Locate turns a position in SQL into one there. Both
	// are ignored where Locate is nil.
	Statement int
	Locate    func(position int) script.Place
}

// Described is what PostgreSQL says of one of the script's statements.
type Described struct {
	Params    [][]byte // the parameters' values in the text format
	ParamOIDs []uint32
	Columns   *rows.Columns // nil: it returns no rows
	Fields    []pgconn.FieldDescription
}

func (w *Work) do(ctx context.Context, s *session, work func(context.Context, *Work) error) (string, error) {
	if s.conn.TxStatus() == 'E' {
		return "", errFailedTransaction()
	}
	s.notices.reset()
	err := work(ctx, w)
	w.drain(ctx)
	if settled := w.settle(); err == nil {
		err = settled
	}
	if err == nil {
		return w.ended, nil
	}
	failure := w.fail(ctx, s, err)
	if w.task.own && !w.task.later {
		s.rollback(ctx, false)
		return "it was rolled back: " + string(failure.Code), failure
	}
	if w.executed {
		s.spoil(ctx)
	}
	failure.Retryable = false
	return string(failure.Code), failure
}

// settle ends the pipeline. What was sent and never waited for is executed, as
// the connection would be lost otherwise; nobody reads its results.
func (w *Work) settle() error {
	defer w.flow.close()
	if w.pipeline == nil || len(w.steps) == 0 || w.session.lost() {
		return nil
	}
	return w.flow.sync(func(step, any) error { return nil })
}

// fail translates an error, after what a cancel request may have left behind
// was taken care of.
func (w *Work) fail(ctx context.Context, s *session, err error) *service.Error {
	if (ctx.Err() != nil || w.canceled) && !s.lost() {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		_ = s.execute(cleaning, ";") // swallows a late cancel
	}
	if reported(err) {
		w.forget() // it may come from what was known of the tables
	}
	failure := w.failure(ctx, err)
	var at *stepError
	if errors.As(err, &at) && at.query != nil && at.query.Locate != nil && failure.SQLState != "" {
		at.query.locate(failure, w.task.Script())
	}
	return failure
}

func (w *Work) forget() {
	for i := range w.program.learned {
		w.program.learned[i].Store(nil)
	}
}

func (q *Query) locate(failure *service.Error, s *script.Script) {
	failure.Statement, failure.Line = q.Statement+1, s.Statements[q.Statement].Line
	if failure.Position > 0 {
		place := q.Locate(failure.Position)
		failure.Position, failure.Line = place.Position, place.Line
	}
}

// Refused says that an error of PostgreSQL's comes from a query which did not go
// through Send, so that the client learns the place. A nil error stays nil.
func (w *Work) Refused(q Query, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{step: step{kind: stepQuery, query: &q}, err: err}
}

// Conn is the connection, for what no pipeline can do. It may be used after
// Sync and before the next Send.
func (w *Work) Conn() *pgconn.PgConn { return w.session.conn }

// Executes says that one of the script's statements is being executed on Conn:
// after an error from now on a client's transaction is failed.
func (w *Work) Executes() { w.executed = true }

// start sends what has to come first.
func (w *Work) start(ctx context.Context) error {
	if !w.ready {
		if err := w.know(ctx); err != nil {
			return err
		}
	}
	if w.pipeline == nil {
		w.flow.open(ctx)
	}
	if !w.ready {
		w.begin()
	}
	w.ready = true
	return nil
}

// Statements sends the script's statements from one index up to, and without,
// another. Their results are kept, see Results; where they do not fit a
// message the error is too_large, unless they are dropped.
func (w *Work) Statements(ctx context.Context, from, to int, drop bool) error {
	w.result.dropped = drop
	for i := from; i < to; i++ {
		if err := w.start(ctx); err != nil {
			return err
		}
		if err := w.execution.send(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// Describe says what one of the script's statements takes and returns. Where
// that is not known yet, what waits is sent, and it costs a round trip or two.
func (w *Work) Describe(ctx context.Context, i int) (Described, error) {
	if err := w.start(ctx); err != nil {
		return Described{}, err
	}
	if w.execution.statements[i] == nil {
		if _, err := w.learn(ctx, i); err != nil {
			return Described{}, err
		}
	}
	d := w.execution.statements[i]
	return Described{Params: w.values[i], ParamOIDs: d.statement.ParamOIDs, Columns: d.columns, Fields: d.statement.Fields}, nil
}

// Forget drops what is known of one of the script's statements, after its
// result turned out to be another than Describe said.
func (w *Work) Forget(i int) {
	w.execution.statements[i] = nil
	w.program.learned[i].Store(nil)
}

// Send sends a statement of the extension's own.
func (w *Work) Send(ctx context.Context, q Query) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	w.pipeline.SendQueryParams(q.SQL, q.Params, q.ParamOIDs, nil, nil)
	w.steps = append(w.steps, step{kind: stepQuery, query: &q})
	return nil
}

// Sync waits for everything that was sent, and closes the pipeline.
func (w *Work) Sync(ctx context.Context) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	defer w.flow.close()
	if len(w.steps) == 0 {
		return nil
	}
	return w.flow.sync(w.read)
}

// Columns describes a result by its fields. It may ask PostgreSQL, so the
// connection must be free; while rows are under way use Known.
func (w *Work) Columns(ctx context.Context, fields []pgconn.FieldDescription) (*rows.Columns, error) {
	return w.session.catalog.Columns(ctx, rows.LookupOn(w.session.conn), fields)
}

// Known describes a result by the types that are known already; those that are
// not become text.
func (w *Work) Known(fields []pgconn.FieldDescription) *rows.Columns {
	return w.session.undescribed(fields)
}

// Results returns the results of the script's statements so far, a JSON array
// as in the reply of a run. It is valid until the next call of Statements.
func (w *Work) Results() []byte { return w.result.list() }

// Notices returns what PostgreSQL said besides, objects with commas between
// them.
func (w *Work) Notices() []byte { return w.session.notices.json }

// Commit ends the transaction, as the task's own. reply is stored with the
// request's message id, if there is one. Where the connection is lost
// meanwhile the error is unknown.
func (w *Work) Commit(ctx context.Context, reply []byte) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	if w.id != nil {
		w.storeReply(reply)
	}
	err := w.commit()
	w.flow.close()
	w.ended = "it was committed"
	return err
}

// End gives the reason for which the transaction is over after this turn, where
// that is so: after Commit, or when the last held cursor was closed.
func (w *Work) End(reason string) { w.ended = reason }
