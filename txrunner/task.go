package txrunner

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// Task is a script, or a request's own SQL, with its parameters, that an
// [Extension] works on in one transaction. It is used by one goroutine at a
// time.
type Task struct {
	// Request is what asks for the work. A job's has no one who waits for an
	// answer.
	Request *service.Request
	// Fields are those of the request's body that only the extension knows. It
	// has to read them, and to call End before anything else is done.
	Fields service.Fields
	// Deadline is when the work on the connection is cancelled. Zero means the
	// end of the transaction's lifetime, and that PostgreSQL may be idle so long:
	// the client sets the pace. At first it is what the request, the script and
	// the configuration allow for a run.
	Deadline time.Time

	runner    *Runner
	extension *Extension
	call      *call
	tx        *Transaction // nil before Begin, unless it is the client's
	own       bool         // the transaction was begun for this task
	later     bool         // the work has begun before
}

// newTask reads a request to begin an extension's work; t is the client's
// pinned transaction, if it comes on one.
func (r *Runner) newTask(e *Extension, t *Transaction, to address, request *service.Request) (*Task, error) {
	c, fields, err := r.readCall(to, request, e.Accepts)
	if err != nil {
		return nil, err
	}
	task := &Task{
		Request: request, Fields: fields, Deadline: c.deadline,
		runner: r, extension: e, call: c, tx: t,
	}
	id := request.Header.Get(nats.MsgIdHdr)
	switch {
	case id == "":
	case t != nil:
		return nil, noMessageID(request)
	case e.Job == nil:
		return nil, service.Errorf(service.CodeInvalidRequest, "a %s has no message id", e.Verb)
	}
	if c.id, err = newMessageID(r.config.Prefix, to.caller, e.Verb, to.script, id, request.Data); err != nil {
		return nil, err
	}
	if t != nil {
		return task, r.suits(t, c.program)
	}
	return task, nil
}

// Script is what the task works on.
func (k *Task) Script() *script.Script { return k.call.program.Script }

// Own reports whether the transaction is the task's own, and not a client's.
func (k *Task) Own() bool { return k.own || k.tx == nil }

// Identified reports whether the request has a message id: what it leads to is
// one reply, which is stored.
func (k *Task) Identified() bool { return k.call.id != nil }

// Transaction is where the work is done. Nil before Begin, unless the client
// has pinned it.
func (k *Task) Transaction() *Transaction { return k.tx }

// Objects reports whether the client wants rows as objects instead of arrays.
func (k *Task) Objects() bool { return k.call.format.objects }

// Format returns the columns as the client wants their values.
func (k *Task) Format(c *rows.Columns) *rows.Columns {
	if k.call.format.quoteBig {
		return c.QuoteBigNumbers()
	}
	return c
}

// ReplyLimit is how long a reply's body may be, in bytes.
func (k *Task) ReplyLimit() int { return k.runner.replyLimit() }

// Begin pins a connection and opens a transaction with the script's modes,
// unless the task has one. Where the request's message id is known it returns
// the stored reply instead, and there is nothing to be done. It blocks until a
// connection is free, for 5 s at most. Its errors are for the client.
func (k *Task) Begin(ctx context.Context) (replayed *service.Reply, err error) {
	if k.tx != nil {
		return nil, nil
	}
	ctx, cancel := context.WithDeadline(ctx, k.call.deadline)
	defer cancel()
	free, err := k.call.program.slot(ctx)
	if err != nil {
		return nil, err
	}
	t, body, err := k.runner.pins.beginFor(ctx, k.call)
	if t == nil {
		free()
	}
	switch {
	case err != nil:
		return nil, err
	case t == nil:
		k.runner.metrics.replays.Inc()
		return &service.Reply{Header: nats.Header{headerReplayed: {"true"}}, Data: body}, nil
	}
	t.OnEnd(free)
	k.tx, k.own = t, true
	return nil, nil
}

// Later is the same task for a later request, whose time is its own.
func (k *Task) Later(request *service.Request) *Task {
	later := *k
	later.Request, later.Fields, later.later = request, nil, true
	later.Deadline = request.Received.Add(k.call.program.timeout)
	return &later
}

// Do gives work the transaction's connection when it is free, and returns when
// work has. An error rolls a transaction of the task's own back, unless the
// task is a later one; a client's is failed if PostgreSQL has refused a
// statement. The error is for the client.
func (k *Task) Do(ctx context.Context, work func(context.Context, *Work) error) error {
	c := *k.call
	if c.deadline = k.Deadline; c.deadline.IsZero() {
		c.deadline = k.tx.lifeEnds
	}
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	w := &Work{task: k, execution: execution{
		call: &c, attempt: 1, pinned: k.tx, paced: k.Deadline.IsZero(), flow: flow{session: k.tx.session},
		result: result{limit: k.runner.replyLimit(), format: c.format},
	}}
	err := k.tx.do(ctx, func(ctx context.Context, s *session) (string, error) {
		return w.do(ctx, s, work)
	})
	if err != nil && k.own && !k.later && service.AsError(err).Code == service.CodeGone && k.tx.pins.isStopping() {
		return service.Errorf(service.CodeUnavailable, "pgbridge is stopping").WithCause(err) // another replica can do it
	}
	return err
}
