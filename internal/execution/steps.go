package execution

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// What the owner of a pinned transaction does, step by step.

// Described is what PostgreSQL says of one of the script's statements.
type Described struct {
	Params  [][]byte      // the parameters' values in the text format
	Columns *rows.Columns // nil: it returns no rows
	Fields  []pgconn.FieldDescription
}

// InTransaction returns an execution for a pinned transaction, in which
// PostgreSQL may be idle for so long, and of which roles are those. The reply, of at
// most limit bytes, is appended to buffer. It is to be closed.
func InTransaction(c *Call, s *session.Session, roles *Roles, idle time.Duration, limit int, buffer []byte) *Execution {
	x := newExecution(c, s, 1, limit, buffer)
	x.pinned, x.roles, x.idle = true, roles, idle
	return x
}

// Session is the connection, for what no pipeline can do. Its Conn may be used
// after Sync and before the next Send.
func (x *Execution) Session() *session.Session { return x.session }

// MayHold refuses to open a cursor that outlives COMMIT where COMMIT is executed as
// another role.
func (x *Execution) MayHold() error { return x.roles.mayHold(string(x.call.Program.role())) }

// Executes says that one of the script's statements is being executed on the
// session's Conn: after an error from now on a client's transaction is failed.
func (x *Execution) Executes() { x.executed = true }

// Statements sends the script's statements from one index up to, and without,
// another. Their results are kept, see Results; where they do not fit a
// message the error is too_large, unless they are dropped.
func (x *Execution) Statements(ctx context.Context, from, to int, drop bool) error {
	x.reply.dropped = drop
	for i := from; i < to; i++ {
		if err := x.start(ctx); err != nil {
			return err
		}
		if err := x.send(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// Describe says what one of the script's statements takes and returns. Where
// that is not known yet, what waits is sent, and it costs a round trip or two.
func (x *Execution) Describe(ctx context.Context, i int) (Described, error) {
	if err := x.start(ctx); err != nil {
		return Described{}, err
	}
	if x.statements[i] == nil {
		if _, err := x.learn(ctx, i); err != nil {
			return Described{}, err
		}
	}
	d := x.statements[i]
	return Described{Params: x.values[i], Columns: d.Columns, Fields: d.Statement.Fields}, nil
}

// Forget drops what is known of one of the script's statements, after its
// result turned out to be another than Describe said.
func (x *Execution) Forget(i int) {
	x.statements[i] = nil
	x.call.Program.Script.Learn(i, nil)
}

// Send sends a statement of the owner's own.
func (x *Execution) Send(ctx context.Context, q session.Query) error {
	if err := x.start(ctx); err != nil {
		return err
	}
	x.pipeline.Query(&q)
	return nil
}

// Sync waits for everything that was sent, and closes the pipeline.
func (x *Execution) Sync(ctx context.Context) error {
	if err := x.start(ctx); err != nil {
		return err
	}
	defer x.pipeline.Close()
	if !x.pipeline.Waiting() {
		return nil
	}
	if err := x.pipeline.Sync(x.read); err != nil {
		return err
	}
	x.pipeline.Close()
	return x.resolve(ctx)
}

// Ask asks for the next rows of an open cursor, see [session.Pipeline.Ask]. Each
// Ask is answered to one Take.
func (x *Execution) Ask(ctx context.Context, portal string, rows int) error {
	if x.pipeline.Asked() == 0 {
		if err := x.start(ctx); err != nil {
			return err
		}
	}
	return x.pipeline.Ask(portal, rows)
}

// Asked is how many answers are still to be taken.
func (x *Execution) Asked() int { return x.pipeline.Asked() }

// Take waits for the answer to the first Ask that has none yet. It reports
// whether the cursor has no more rows. An error of PostgreSQL's comes as it is.
func (x *Execution) Take(ctx context.Context, p session.RowHandler) (ended bool, err error) {
	return x.pipeline.Take(ctx, x.read, p)
}

// Inspect has PostgreSQL describe a statement that is not the script's. The
// connection must be free. The error says where in q it is.
func (x *Execution) Inspect(ctx context.Context, q session.Query) ([]pgconn.FieldDescription, *rows.Columns, error) {
	x.session.Settle(ctx)
	d, err := x.session.Conn.Prepare(ctx, "", q.SQL, nil)
	if err != nil {
		return nil, nil, x.Refused(q, err)
	}
	columns, err := x.session.Columns(ctx, d.Fields)
	return d.Fields, columns, err
}

// Known describes a result by the types that are known already; those that are
// not become text.
func (x *Execution) Known(fields []pgconn.FieldDescription) *rows.Columns {
	return x.session.Known(fields)
}

// Refused says that an error of PostgreSQL's comes from a query which did not go
// through Send, so that the client learns the place. A nil error stays nil.
func (x *Execution) Refused(q session.Query, err error) error {
	if err == nil {
		return nil
	}
	return &session.StepError{Step: session.Step{Kind: session.StepQuery, Query: &q}, Err: err}
}

// Results returns the results of the script's statements so far, a JSON array
// as in the reply of a run. It is valid until the next call of Statements.
func (x *Execution) Results() []byte { return x.reply.list() }

// Commit ends the transaction. reply is stored with the request's message id, if
// there is one. Where the connection is lost meanwhile the error is unknown.
func (x *Execution) Commit(ctx context.Context, reply []byte) error {
	if err := x.start(ctx); err != nil {
		return err
	}
	if x.call.ID != nil {
		x.storeReply(reply)
	}
	err := x.commit()
	x.pipeline.Close()
	return err
}

// Run executes the whole call in a pinned transaction and returns the reply's
// body. The error is for the client. After one the transaction is failed, or rolled
// back where what was done cannot be undone alone.
func (x *Execution) Run(ctx context.Context) ([]byte, *service.Error) {
	err := x.all(ctx)
	if err == nil {
		err = x.resolve(ctx)
	}
	if err == nil {
		return x.finish(), nil
	}
	failure := x.failure(ctx, err)
	switch failure.Code {
	case service.CodeTooLarge, service.CodeBusy: // PostgreSQL knows of no error
		x.session.Rollback(ctx)
	}
	return nil, x.Spoil(ctx, failure)
}

// Settle takes the answers that nobody has taken and ends the pipeline. What was
// sent and never waited for is executed, as the connection would be lost
// otherwise.
func (x *Execution) Settle(ctx context.Context) error {
	x.pipeline.Drain(ctx, x.read)
	defer x.pipeline.Close()
	if !x.pipeline.Waiting() || x.session.Lost() {
		return nil
	}
	return x.pipeline.Sync(func(session.Step, any) error { return nil })
}

// Spoil makes the transaction a failed one, if a statement of the script was
// sent, and the failure one that repeating this request alone does not help.
func (x *Execution) Spoil(ctx context.Context, failure *service.Error) *service.Error {
	if x.executed {
		x.session.Spoil(ctx)
	}
	failure.Retryable = false
	return failure
}

// Fail translates an error of the owner's work, after which nothing that is known
// of the script's statements is trusted.
func (x *Execution) Fail(ctx context.Context, err error) *service.Error {
	if session.Reported(err) {
		x.call.Program.Script.Unlearn() // it may come from what was known of the tables
	}
	failure := x.failure(ctx, err)
	var at *session.StepError
	if errors.As(err, &at) && at.Step.Query != nil && at.Step.Query.Locate != nil && failure.SQLState != "" {
		q, statements := at.Step.Query, x.call.Program.Script.Statements
		failure.Statement, failure.Line = q.Statement+1, statements[q.Statement].Line
		Explain(failure, &statements[q.Statement])
		if failure.Position > 0 {
			place := q.Locate(failure.Position)
			failure.Position, failure.Line = place.Position, place.Line
		}
	}
	return failure
}
