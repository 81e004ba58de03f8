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
	if err != nil {
		return nil, refused(err)
	}
	return s, nil
}

// refused says why there is no connection.
func refused(err error) error {
	if errors.Is(err, session.ErrBusy) {
		return service.Errorf(service.CodeBusy, "%v", session.ErrBusy).WithCause(err)
	}
	return service.FromPostgres(err, false)
}

// maxStale is how often a call is tried again because of what has changed.
const maxStale = 3

// try runs a call on one connection, its own or that of another call of the same.
func try(ctx context.Context, pool *session.Pool, c *Call, attempt, limit int, buffer []byte) (Outcome, error) {
	if attempt == 1 && c.sociable(ctx) {
		return inCompany(ctx, pool, c, limit, buffer)
	}
	s, err := Acquire(ctx, pool, c.Owner, c.Caller)
	if err != nil {
		return Outcome{}, err
	}
	return alone(ctx, s, c, attempt, limit, buffer)
}

// inCompany runs a call together with those that have come at the same time or wait for a
// connection; where that comes to nothing, alone.
func inCompany(ctx context.Context, pool *session.Pool, c *Call, limit int, buffer []byte) (Outcome, error) {
	own := seatOf(c, pool, limit)
	taken := own.greet()
	var s *session.Session
	var err error
	if !taken {
		s, err = pool.AcquireFor(ctx, c.Owner, c.Caller, own)
		taken = errors.Is(err, session.ErrTaken)
	}
	if taken {
		body, ok, err := own.result(ctx)
		switch {
		case err != nil:
			return Outcome{}, c.Failure(ctx, err)
		case ok:
			return Outcome{Body: body}, nil
		}
		s, err = Acquire(ctx, pool, c.Owner, c.Caller)
		if err != nil {
			return Outcome{}, err
		}
		return alone(ctx, s, c, 1, limit, buffer)
	}
	if err != nil {
		return Outcome{}, refused(err)
	}
	if !s.HasPrepared(c.Program.Script) { // which takes its time
		return alone(ctx, s, c, 1, limit, buffer)
	}
	if others := own.company.take(own); len(others) > 0 {
		began := time.Now()
		well := together(ctx, s, append([]*seat{own}, others...), buffer)
		own.company.ranTogether(1+len(others), time.Since(began))
		own.company.end(others, well)
		if own.body != nil {
			s.GiveBack(false)
			return Outcome{Body: own.body}, nil
		}
		if s.Lost() {
			s.GiveBack(false)
			if s, err = Acquire(ctx, pool, c.Owner, c.Caller); err != nil {
				return Outcome{}, err
			}
		}
	}
	return alone(ctx, s, c, 1, limit, buffer)
}

// alone runs a call: once, and again when that did nothing since it was prepared for
// tables that have changed. It gives the connection back.
func alone(ctx context.Context, s *session.Session, c *Call, attempt, limit int, buffer []byte) (Outcome, error) {
	defer s.GiveBack(c.Program.AdHoc)
	x := newExecution(c, s, attempt, limit, buffer)
	defer x.Close()
	began := time.Now()
	done, err := x.once(ctx)
	if err == nil {
		c.Program.company.ran(time.Since(began))
		return done, nil
	}
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
