package session

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// A cancel request travels on a connection of its own, and PostgreSQL delivers
// it when it gets to it: what it was meant for may be over by then, and the next
// statement is hit in its place.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS

// nothing is a statement that does nothing.
const nothing = ";"

// Settle puts a statement that does nothing in the way of a cancel request that
// may come late. Where none was made it does nothing and costs nothing. All
// methods of a session and of its pipelines that send something begin with it;
// who sends on Conn calls it before.
func (s *Session) Settle(ctx context.Context) {
	if !s.canceled.Swap(false) || s.Lost() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	_ = postgres.Execute(ctx, s.Conn, nothing) // to be cancelled is what it is for
}

// Cancel asks PostgreSQL to cancel what it does now. Whoever reads the answer
// reads it to its end.
func (s *Session) Cancel(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	s.canceled.Store(true)
	_ = s.Conn.CancelRequest(ctx) // lost, the answer comes to its end by itself
}

// CancelOn asks PostgreSQL to cancel when ctx ends, until the answer has come to
// its end, for those who read it from Conn themselves. Where the answer does not
// end in time after that, reading it fails. The function that it returns must be
// called when the answer has come to its end or the connection was closed, and
// before anything else is sent.
func (s *Session) CancelOn(ctx context.Context) (done func()) {
	asked := make(chan struct{})
	answering, answered := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		defer close(asked)
		_ = s.Conn.Conn().SetDeadline(time.Now().Add(cleanTimeout))
		// One that comes before the query that it is meant for has no effect.
		again := wait.Retry{Backoff: wait.Backoff{First: 50 * time.Millisecond, Max: time.Second}}
		for again.Wait(answering) {
			s.Cancel(ctx)
		}
	})
	return func() {
		answered()
		if stop() {
			return
		}
		<-asked
		_ = s.Conn.Conn().SetDeadline(time.Time{}) // on a closed one it has no effect
	}
}

// noted is what a connection does when the context of a statement ends, and
// notes on its session that it did.
type noted struct {
	ctxwatch.Handler
	conn *pgconn.PgConn
}

// HandleCancel implements ctxwatch.Handler.
func (n noted) HandleCancel(ctx context.Context) {
	if s := Of(n.conn); s != nil {
		s.canceled.Store(true)
	}
	n.Handler.HandleCancel(ctx)
}

// noteCancels makes the connections of a configuration note their own cancel
// requests.
func noteCancels(config *pgconn.Config) {
	build := config.BuildContextWatcherHandler
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		handler := noted{build(conn), conn}
		conn.CustomData()[handlerKey] = handler
		return handler
	}
}
