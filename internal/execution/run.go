package execution

import (
	"context"
	"errors"
	"time"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// backoff is between the attempts at a call that others were in the way of.
func backoff(attempt int) time.Duration {
	return wait.Backoff{First: 5 * time.Millisecond, Max: 500 * time.Millisecond}.After(attempt)
}

// Outcome is what a call came to.
type Outcome struct {
	Body     []byte
	Replayed bool // it is the stored reply of an earlier request
	Attempts int

	retries int // that are allowed; after a failure only
}

// Run runs a call in a transaction of its own, again after serialization failures
// and deadlocks, until it is committed, fails or its time is over. The body, of at
// most limit bytes, is appended to buffer. The error is for the client.
func Run(ctx context.Context, pool *session.Pool, c *Call, limit int, buffer []byte) (Outcome, error) {
	ctx, cancel := context.WithDeadline(ctx, c.Deadline)
	defer cancel()
	free, err := c.Program.Slot(ctx, c.Owner)
	if err != nil {
		return Outcome{}, err
	}
	defer free()
	for attempt := 1; ; attempt++ {
		done, err := try(ctx, pool, c, attempt, limit, buffer)
		done.Attempts = attempt
		if err == nil || !passes(err) || attempt > done.retries || !wait.Within(ctx, backoff(attempt)) {
			return done, err
		}
	}
}

// passes reports whether a failure can go away by itself.
func passes(err error) bool {
	var failure *service.Error
	return errors.As(err, &failure) && failure.Code == service.CodeConflict && failure.Retryable
}

// Acquire takes a connection out of an owner's share for work in a caller's name;
// the error is for the client: busy, or unavailable.
func Acquire(ctx context.Context, pool *session.Pool, owner, caller string) (*session.Session, error) {
	s, err := pool.Acquire(ctx, owner, caller)
	switch {
	case errors.Is(err, session.ErrBusy):
		return nil, service.Errorf(service.CodeBusy, "%v", session.ErrBusy).WithCause(err)
	case err != nil:
		return nil, service.FromPostgres(err, false)
	}
	return s, nil
}

// maxStale is how often a call is tried again because of what has changed.
const maxStale = 3

// try runs a call on one connection: once, and again when that did nothing since
// it was prepared for tables that have changed.
func try(ctx context.Context, pool *session.Pool, c *Call, attempt, limit int, buffer []byte) (Outcome, error) {
	s, err := Acquire(ctx, pool, c.Owner, c.Caller)
	if err != nil {
		return Outcome{}, err
	}
	defer s.GiveBack(c.Program.AdHoc)
	x := newExecution(c, s, attempt, limit, buffer)
	defer x.Close()
	done, err := x.once(ctx)
	for n := 0; n < maxStale && err != nil && x.stale(ctx, err); n++ {
		state := postgres.SQLState(err)
		s.Refresh(ctx, c.Program.Script, state == stateUnknownStatement || state == stateStatementExists)
		done, err = x.once(ctx)
	}
	if err == nil {
		return done, nil
	}
	failure := x.failure(ctx, err)
	done = Outcome{retries: c.Program.retries}
	if c.Program.asSession && passes(failure) && keepsSnapshot(ctx, s) {
		done.retries = defaultRetries
	}
	return done, failure
}

// keepsSnapshot reports whether transactions that say nothing of it have an
// isolation level under which others can be in the way.
func keepsSnapshot(ctx context.Context, s *session.Session) bool {
	level, err := s.Isolation(ctx)
	return err == nil && (level == string(script.Serializable) || level == string(script.RepeatableRead))
}

// once runs the call and leaves the session outside a transaction.
func (x *Execution) once(ctx context.Context) (Outcome, error) {
	x.reply.restart()
	x.session.Notices.Reset()
	x.started, x.committing, x.committed = false, false, false
	x.session.Clean(ctx) // for another attempt
	err := x.all(ctx)
	if err == nil {
		err = x.resolve(ctx)
	}
	if err == nil {
		return Outcome{Body: x.finish()}, nil
	}
	x.session.Rollback(ctx)
	body, err := x.call.Replay(ctx, x.session, err)
	return Outcome{Body: body, Replayed: err == nil}, err
}
