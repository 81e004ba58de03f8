package pinned

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// Replayed is the header of a reply that answers an earlier request.
func Replayed() nats.Header { return nats.Header{api.HeaderReplayed: {"true"}} }

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

	all   *Transactions
	pool  *session.Pool // for a transaction of its own
	idle  time.Duration // of that
	call  *execution.Call
	tx    *Transaction // nil before Begin, unless it is the client's
	own   bool         // the transaction was begun for this task
	later bool         // the work has begun before
}

// NewTask returns the task that a request to begin an extension's work asks for,
// with the fields that are left of it: in a client's transaction t, or in one of its
// own on a connection of pool, where it may idle for so long.
func (p *Transactions) NewTask(t *Transaction, pool *session.Pool, idle time.Duration, c *execution.Call, request *service.Request, left service.Fields) *Task {
	return &Task{
		Request: request, Fields: left, Deadline: c.Deadline,
		all: p, pool: pool, idle: idle, call: c, tx: t,
	}
}

// Script is what the task works on.
func (k *Task) Script() *script.Script { return k.call.Program.Script.Script }

// Own reports whether the transaction is the task's own, and not a client's.
func (k *Task) Own() bool { return k.own || k.tx == nil }

// Identified reports whether the request has a message id: what it leads to is
// one reply, which is stored.
func (k *Task) Identified() bool { return k.call.ID != nil }

// Identify gives the task another message id, and returns it.
func (k *Task) Identify(id *execution.MessageID) *Task {
	k.call.ID = id
	return k
}

// Transaction is where the work is done. Nil before Begin, unless the client
// has pinned it.
func (k *Task) Transaction() *Transaction { return k.tx }

// Objects reports whether the client wants rows as objects instead of arrays.
func (k *Task) Objects() bool { return k.call.Format.Objects }

// Format returns the columns as the client wants their values.
func (k *Task) Format(c *rows.Columns) *rows.Columns { return k.call.Format.Columns(c) }

// ReplyLimit is how long a reply's body may be, in bytes.
func (k *Task) ReplyLimit() int { return k.all.config.ReplyLimit() }

// Begin pins a connection and opens a transaction with the script's modes,
// unless the task has one. Where the request's message id is known it returns
// the stored reply instead, and there is nothing to be done. It blocks until a
// connection is free, for 5 s at most. Its errors are for the client.
func (k *Task) Begin(ctx context.Context) (replayed *service.Reply, err error) {
	if k.tx != nil {
		return nil, nil
	}
	ctx, cancel := context.WithDeadline(ctx, k.call.Deadline)
	defer cancel()
	free, err := k.call.Program.Slot(ctx, k.call.Owner)
	if err != nil {
		return nil, err
	}
	modes := execution.ModesOf(k.Script().Settings)
	t, stored, err := k.all.begin(ctx, k.pool, k.call, modes, k.idle)
	if t == nil {
		free()
	}
	switch {
	case err != nil:
		return nil, err
	case t == nil:
		k.all.config.Replays.Inc()
		return &service.Reply{Header: Replayed(), Data: stored}, nil
	}
	t.OnEnd(free)
	k.tx, k.own = t, true
	return nil, nil
}

// Ended tells what came of the work, once, and how long it took. It is for an
// extension that counts ends.
func (k *Task) Ended(err error, took time.Duration) { k.all.config.Ended(k.Script().Name, err, took) }

// Later is the same task for a later request, whose time is its own.
func (k *Task) Later(request *service.Request) *Task {
	later := *k
	later.Request, later.Fields, later.later = request, nil, true
	later.Deadline = request.Received.Add(k.call.Program.Timeout)
	return &later
}

// Do gives work the transaction's connection when it is free, and returns when
// work has. An error rolls a transaction of the task's own back, unless the
// task is a later one; a client's is failed if PostgreSQL has refused a
// statement. The error is for the client.
func (k *Task) Do(ctx context.Context, work func(context.Context, *execution.Execution) error) error {
	c, idle := *k.call, k.tx.idle
	if c.Deadline = k.Deadline; c.Deadline.IsZero() {
		c.Deadline = k.tx.lifeEnds
		idle = time.Until(c.Deadline)
	}
	ctx, cancel := context.WithDeadline(ctx, c.Deadline)
	defer cancel()
	x := execution.InTransaction(&c, k.tx.session, &k.tx.roles, idle, k.ReplyLimit(), nil)
	defer x.Close()
	err := k.tx.do(ctx, func(ctx context.Context) (string, error) {
		k.tx.worksOn(k.call)
		return k.turn(ctx, x, work)
	})
	if err != nil && k.own && !k.later && service.AsError(err).Code == service.CodeGone && k.all.isStopping() {
		return service.Errorf(service.CodeUnavailable, "pgbridge is stopping").WithCause(err) // another replica can do it
	}
	return err
}

// turn does the work while it has the connection. It returns why the transaction
// is over, if it is.
func (k *Task) turn(ctx context.Context, x *execution.Execution, work func(context.Context, *execution.Execution) error) (string, error) {
	s := k.tx.session
	if s.Failed() {
		return "", errFailed()
	}
	s.Notices.Reset()
	err := work(ctx, x)
	if settled := x.Settle(ctx); err == nil {
		err = settled
	}
	if err == nil {
		return cmp.Or(k.tx.endReason(), wasCommitted), nil
	}
	failure := x.Fail(ctx, err)
	if k.own && !k.later {
		s.Rollback(ctx)
		return "it was rolled back: " + string(failure.Code), failure
	}
	return string(failure.Code), x.Spoil(ctx, failure)
}

// Run runs a call in the transaction and returns its reply, of at most limit bytes
// and appended to buffer. The error is for the client.
func (t *Transaction) Run(ctx context.Context, c *execution.Call, limit int, buffer []byte) (body []byte, err error) {
	ctx, cancel := context.WithDeadline(ctx, c.Deadline)
	defer cancel()
	x := execution.InTransaction(c, t.session, &t.roles, t.idle, limit, buffer)
	defer x.Close()
	err = t.do(ctx, func(ctx context.Context) (string, error) {
		if t.session.Failed() {
			return "", errFailed()
		}
		t.worksOn(c)
		t.session.Notices.Reset()
		if err := t.RunsScript(ctx, x); err != nil {
			_ = x.Settle(ctx)
			return "", x.Spoil(ctx, x.Fail(ctx, err))
		}
		var failure *service.Error
		if body, failure = x.Run(ctx); failure != nil {
			return "a result did not fit one message", failure
		}
		return "", nil
	})
	return body, err
}

// Suits refuses a script that wants another kind of transaction.
func (t *Transaction) Suits(s script.Settings) error {
	want := execution.ModesOf(s)
	differs := func(a, b *bool) bool { return a != nil && *a != *b }
	switch {
	case want.Isolation != "" && want.Isolation != t.modes.Isolation:
		return service.Errorf(service.CodeInvalidRequest, "the script wants the isolation level %s, the transaction has %s", want.Isolation, t.modes.Isolation)
	case differs(want.ReadOnly, t.modes.ReadOnly):
		return service.Errorf(service.CodeInvalidRequest, "the script wants read_only %t, the transaction has %t", *want.ReadOnly, *t.modes.ReadOnly)
	case differs(want.Deferrable, t.modes.Deferrable):
		return service.Errorf(service.CodeInvalidRequest, "the script wants deferrable %t, the transaction has %t", *want.Deferrable, *t.modes.Deferrable)
	}
	return nil
}
