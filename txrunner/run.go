package txrunner

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	// slotTimeout is how long a request waits for its turn.
	slotTimeout = 5 * time.Second

	firstBackoff = 5 * time.Millisecond
	maxBackoff   = 500 * time.Millisecond
)

// outcome is what a call came to.
type outcome struct {
	body     []byte
	replayed bool
}

// run runs a call in a transaction of its own, again after serialization
// failures and deadlocks, until it is committed, fails or its time is over. The
// body is appended to buffer.
func (r *Runner) run(ctx context.Context, p *connections, c *call, buffer []byte) (outcome, error) {
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	free, err := c.program.slot(ctx)
	if err != nil {
		return outcome{}, err
	}
	defer free()
	for attempt := 1; ; attempt++ {
		done, err := r.attempt(ctx, p, c, attempt, buffer)
		if err == nil {
			return done, nil
		}
		var failure *service.Error
		again := errors.As(err, &failure) && failure.Code == service.CodeConflict && failure.Retryable
		if !again || attempt > c.program.retries || !sleep(ctx, backoff(attempt)) {
			return outcome{}, err
		}
		r.metrics.retries.Inc()
	}
}

// slot waits for the script's turn and returns what ends it.
func (p *program) slot(ctx context.Context) (func(), error) {
	if p.slots == nil {
		return func() {}, nil
	}
	timer := time.NewTimer(slotTimeout)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots }, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, service.Errorf(service.CodeBusy, "the script is being run %d times already", cap(p.slots))
}

// backoff returns a random wait that grows with the attempts.
func backoff(attempt int) time.Duration {
	limit := min(firstBackoff<<min(attempt, 16), maxBackoff)
	return rand.N(limit) + time.Millisecond
}

// sleep waits and reports whether it could: not where ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt runs a call once, and once more on the same connection when that had
// it prepared for tables that have changed.
func (r *Runner) attempt(ctx context.Context, p *connections, c *call, attempt int, buffer []byte) (outcome, error) {
	conn, err := p.acquire(ctx)
	if err != nil {
		return outcome{}, err
	}
	x := &execution{
		call: c, attempt: attempt,
		flow:   flow{session: sessionOf(conn.Conn().PgConn())},
		result: result{body: buffer[:0], limit: r.replyLimit(), format: c.format},
	}
	defer r.giveBack(conn, leftovers(c.program))
	done, err := x.once(ctx)
	if err != nil && x.stale(err) {
		x.refresh(ctx, err)
		done, err = x.once(ctx)
	}
	if err != nil {
		return outcome{}, x.failure(ctx, err)
	}
	return done, nil
}

// leftovers returns what has to be executed after a program before its session
// can serve anyone else; empty means nothing.
func leftovers(p *program) string {
	switch {
	case p.adhoc:
		return resetSQL
	case p.leaves:
		return tidySQL
	}
	return ""
}

// once runs the call and leaves the session outside a transaction.
func (x *execution) once(ctx context.Context) (outcome, error) {
	x.restart()
	x.session.notices.reset()
	x.committing, x.committed = false, false
	err := x.run(ctx)
	if err == nil {
		return outcome{body: x.finish()}, nil
	}
	x.session.rollback(ctx, ctx.Err() != nil || x.canceled)
	if report := x.idRefused(err); report != nil {
		return x.replay(ctx, report)
	}
	return outcome{}, err
}

// idRefused returns PostgreSQL's report if it is the message id that could not
// be inserted.
func (x *execution) idRefused(err error) *pgconn.PgError {
	var at *stepError
	var report *pgconn.PgError
	if errors.As(err, &at) && at.sql == insertIDSQL && errors.As(err, &report) && !x.session.lost() {
		return report
	}
	return nil
}

// replay answers a request whose message id could not be inserted.
func (x *execution) replay(ctx context.Context, report *pgconn.PgError) (outcome, error) {
	if err := idError(report); err != nil {
		return outcome{}, err
	}
	body, err := x.session.replay(ctx, x.id)
	if err != nil {
		return outcome{}, err
	}
	return outcome{body: body, replayed: true}, nil
}

// refresh forgets what the session knew of the program.
func (x *execution) refresh(ctx context.Context, err error) {
	x.session.catalog.Flush()
	for i := range x.program.learned {
		x.program.learned[i].Store(nil)
	}
	x.session.forgetProgram(x.program)
	if postgres.SQLState(err) == stateUnknownStatement { // then none is to be trusted
		x.session.clean(ctx, resetSQL)
	}
}

// giveBack returns a connection to its pool after removing what work may have
// left on it; that happens in the background.
func (r *Runner) giveBack(conn *pgxpool.Conn, sql string) {
	s := sessionOf(conn.Conn().PgConn())
	if sql == "" || s.lost() {
		conn.Release()
		return
	}
	r.background.Go(func() {
		s.clean(context.Background(), sql)
		conn.Release()
	})
}
