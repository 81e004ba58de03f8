package copier

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// COPY's part of PostgreSQL's protocol, see
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY.
// pgconn's own CopyTo and CopyFrom do not tell when the server has accepted the
// COPY, close the connection when a writer fails, and hang after an error of
// the server's until a reader returns.

const (
	// cancelTimeout is how long PostgreSQL may take to cancel.
	cancelTimeout = 5 * time.Second
	// dataBytes is how much data goes into one message, headerBytes what it has
	// before them.
	dataBytes   = 128 << 10
	headerBytes = 5
)

// source is where the data of a COPY … FROM STDIN comes from.
type source interface {
	// Read is as io.Reader's. It waits until there is something.
	io.Reader
	// Fail makes Read return an error, now and from now on. Only the first
	// counts. It is safe for concurrent use.
	Fail(error)
	// Failed is closed when Fail is called for the first time.
	Failed() <-chan struct{}
}

// errOver is the failure of a source that is not needed any more.
var errOver = errors.New("PostgreSQL has ended the COPY")

// copyOut sends a COPY … TO STDOUT and hands each row to row, which must not
// keep it. begun is called when PostgreSQL has accepted the COPY. An error of
// row's, or the end of ctx, cancels it. The connection can be used afterwards
// unless it is closed.
func copyOut(ctx context.Context, conn *pgconn.PgConn, sql string, begun func(), row func([]byte) error) (pgconn.CommandTag, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var t talk
	var failure error
	err := t.run(ctx, conn, sql, func(message pgproto3.BackendMessage) {
		switch m := message.(type) {
		case *pgproto3.CopyOutResponse:
			begun()
		case *pgproto3.CopyData:
			if failure != nil {
				return // what comes until the cancel arrives
			}
			if failure = row(m.Data); failure != nil {
				cancel()
			}
		}
	})
	if failure != nil {
		return t.tag, failure
	}
	return t.tag, err
}

// copyIn sends a COPY … FROM STDIN and what from reads. begun is called when
// PostgreSQL has accepted the COPY, before anything is read. A failure of
// from's, or the end of ctx, cancels the COPY. The connection can be used
// afterwards unless it is closed.
func copyIn(ctx context.Context, conn *pgconn.PgConn, sql string, begun func(), from source) (pgconn.CommandTag, error) {
	defer context.AfterFunc(ctx, func() { from.Fail(context.Cause(ctx)) })()
	var t talk
	var failure error // of the source
	var sending sync.WaitGroup
	watched, unwatch, release := cancelOn(ctx, from.Failed())
	defer release()
	over := func() {
		unwatch()          // nothing is left that could be cancelled
		from.Fail(errOver) // the sender is not needed any more
	}
	t.before = func() {
		over()
		sending.Wait()
	}
	err := t.run(watched, conn, sql, func(message pgproto3.BackendMessage) {
		switch message.(type) {
		case *pgproto3.CopyInResponse:
			begun()
			sending.Go(func() { failure = sendData(conn.Frontend(), from) })
		case *pgproto3.ErrorResponse:
			over()
		}
	})
	var report *pgconn.PgError
	if errors.As(err, &report) && report.Code != stateQueryCanceled {
		return t.tag, err
	}
	if err != nil && failure != nil && !errors.Is(failure, errOver) {
		return t.tag, failure // PostgreSQL only repeats what it was told
	}
	return t.tag, err
}

// cancelOn returns a context that also ends when something else has failed: the
// COPY may be waiting for a lock or for its next row, and not see that. unwatch
// ends the watch and leaves the context as it is; release ends the context.
func cancelOn(ctx context.Context, failed <-chan struct{}) (_ context.Context, unwatch func(), release context.CancelFunc) {
	ctx, release = context.WithCancel(ctx)
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-failed:
			release()
		case <-over:
		}
	})
	return ctx, sync.OnceFunc(func() {
		close(over)
		watch.Wait()
	}), release
}

// stateQueryCanceled is the SQLSTATE of a COPY that its client has ended, and
// of a cancelled one.
const stateQueryCanceled = "57014"

// sendData sends what from reads until its end, and how it ended. It returns
// the error of from's; one of the connection is noticed by who reads from that.
func sendData(frontend *pgproto3.Frontend, from source) error {
	buffer := make([]byte, headerBytes+dataBytes)
	for {
		n, err := from.Read(buffer[headerBytes:])
		if n > 0 {
			message := buffer[:headerBytes+n]
			putHeader(message)
			if frontend.SendUnbufferedEncodedCopyData(message) != nil {
				return nil
			}
		}
		switch {
		case err == io.EOF:
			frontend.Send(&pgproto3.CopyDone{})
			_ = frontend.Flush()
			return nil
		case err != nil:
			// The text is for PostgreSQL's log.
			frontend.Send(&pgproto3.CopyFail{Message: "pgbridge has ended the copy"})
			_ = frontend.Flush()
			return err
		}
	}
}

// putHeader makes a message of a buffer that holds room for the header, and
// data.
func putHeader(message []byte) {
	n := len(message) - 1 // the length counts itself and what follows
	message[0] = 'd'
	message[1], message[2], message[3], message[4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
}

// talk is one simple query and the answer to it.
type talk struct {
	before func() // called before the connection may be used again; nil: nothing
	tag    pgconn.CommandTag
	report *pgconn.PgError
}

// run sends sql and hands each message of the answer to take until PostgreSQL
// is ready for the next query. The end of ctx cancels the query; where that
// does not end the answer in time, the connection is closed.
func (t *talk) run(ctx context.Context, conn *pgconn.PgConn, sql string, take func(pgproto3.BackendMessage)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	defer cancelAfter(ctx, conn)()
	if t.before != nil {
		defer t.before()
	}
	conn.Frontend().SendQuery(&pgproto3.Query{String: sql})
	if err := conn.Frontend().Flush(); err != nil {
		hangUp(conn)
		return err
	}
	for {
		message, err := conn.ReceiveMessage(context.Background())
		if err != nil {
			hangUp(conn)
			return err
		}
		switch m := message.(type) {
		case *pgproto3.ReadyForQuery:
			if t.report != nil {
				return t.report
			}
			return nil
		case *pgproto3.CommandComplete:
			t.tag = pgconn.NewCommandTag(string(m.CommandTag))
		case *pgproto3.ErrorResponse:
			t.report = pgconn.ErrorResponseToPgError(m)
		}
		take(message)
	}
}

// cancelAfter asks PostgreSQL to cancel when ctx ends. The function that it
// returns is called when the answer has come to its end; it takes care of a
// request that arrives late.
func cancelAfter(ctx context.Context, conn *pgconn.PgConn) func() {
	asked := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(asked)
		_ = conn.Conn().SetDeadline(time.Now().Add(cancelTimeout))
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		_ = conn.CancelRequest(ctx) // if it fails, the deadline is left
	})
	return func() {
		if stop() {
			return
		}
		<-asked
		if conn.IsClosed() {
			return
		}
		_ = conn.Conn().SetDeadline(time.Time{})
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		_, _ = conn.Exec(ctx, ";").ReadAll() // the late request hits this
	}
}

func hangUp(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it is of no use any more
}
