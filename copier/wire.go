package copier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/inlet"
	"github.com/pgbridge/pgbridge/internal/session"
)

// COPY's part of PostgreSQL's protocol, see
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY.
// pgconn's own CopyTo and CopyFrom do not tell when the server has accepted the
// COPY, close the connection when a writer fails, and hang after an error of
// the server's until a reader returns.

const (
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

// outcome is what PostgreSQL says of a COPY that it has done.
type outcome struct {
	rows    int64
	skipped int64 // because of ON_ERROR ignore
}

// copyOut sends a COPY … TO STDOUT and hands each row to row, which must not
// keep it. begun is called when the COPY was sent: PostgreSQL says that it has
// accepted it only with the first row. An error of row's, or the end of ctx,
// cancels it. The connection can be used afterwards unless it is closed.
func copyOut(ctx context.Context, s *session.Session, sql string, begun func(), row func([]byte) error) (outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e := exchange{sent: begun}
	var failure error
	err := e.run(ctx, s, sql, func(message pgproto3.BackendMessage) {
		m, data := message.(*pgproto3.CopyData)
		if !data || failure != nil {
			return // after a failure rows come until the cancel arrives
		}
		if failure = row(m.Data); failure != nil {
			cancel()
		}
	})
	if failure != nil {
		return e.outcome, failure
	}
	return e.outcome, err
}

// copyIn sends a COPY … FROM STDIN and what from reads. begun is called when
// PostgreSQL has accepted the COPY, before anything is read. A failure of
// from's, or the end of ctx, cancels the COPY. The connection can be used
// afterwards unless it is closed.
func copyIn(ctx context.Context, s *session.Session, sql string, begun func(), from source) (outcome, error) {
	defer context.AfterFunc(ctx, func() { from.Fail(context.Cause(ctx)) })()
	var e exchange
	var failure error // of the source
	var sending sync.WaitGroup
	watched, unwatch, release := cancelOn(ctx, from.Failed())
	defer release()
	over := func() {
		unwatch()          // nothing is left that could be cancelled
		from.Fail(errOver) // the sender is not needed any more
	}
	e.before = func() {
		over()
		sending.Wait()
	}
	err := e.run(watched, s, sql, func(message pgproto3.BackendMessage) {
		switch message.(type) {
		case *pgproto3.CopyInResponse:
			begun()
			sending.Go(func() { failure = sendData(s.Conn.Conn(), from) })
		case *pgproto3.ErrorResponse:
			over()
		}
	})
	var report *pgconn.PgError
	if errors.As(err, &report) && report.Code != stateQueryCanceled {
		return e.outcome, err
	}
	if err != nil && failure != nil && !errors.Is(failure, errOver) {
		return e.outcome, failure // PostgreSQL only repeats what it was told
	}
	return e.outcome, err
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
// the error of from's. One of the connection shows where its answers are read. It does
// not share pgconn's buffer, which a connection that is closed meanwhile uses, too.
func sendData(conn io.Writer, from source) error {
	buffer := make([]byte, headerBytes+dataBytes)
	for {
		n, err := from.Read(buffer[headerBytes:])
		if n > 0 {
			message := buffer[:headerBytes+n]
			putHeader(message)
			if _, err := conn.Write(message); err != nil {
				return nil
			}
		}
		switch {
		case err == io.EOF:
			say(conn, &pgproto3.CopyDone{})
			return nil
		case err != nil:
			// The text is for PostgreSQL's log.
			say(conn, &pgproto3.CopyFail{Message: "pgbridge has ended the copy"})
			return err
		}
	}
}

// say sends a short message.
func say(conn io.Writer, m pgproto3.FrontendMessage) {
	if message, err := m.Encode(nil); err == nil {
		_, _ = conn.Write(message)
	}
}

// putHeader makes a message of a buffer that holds room for the header, and
// data.
func putHeader(message []byte) {
	n := len(message) - 1 // the length counts itself and what follows
	message[0] = 'd'
	message[1], message[2], message[3], message[4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
}

// exchange is one simple query and the answer to it.
type exchange struct {
	sent    func() // called when the query was sent; nil: nothing
	before  func() // called before the connection may be used again; nil: nothing
	outcome outcome
	asked   bool // for data
	report  *pgconn.PgError
}

// run sends sql and hands each message of the answer to take until PostgreSQL
// is ready for the next query. The end of ctx cancels the query; where that
// does not end the answer in time, the connection is closed.
func (e *exchange) run(ctx context.Context, s *session.Session, sql string, take func(pgproto3.BackendMessage)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.Settle(ctx)
	defer s.CancelOn(ctx)()
	if e.before != nil {
		defer e.before()
	}
	s.Conn.Frontend().SendQuery(&pgproto3.Query{String: sql})
	if err := s.Conn.Frontend().Flush(); err != nil {
		s.Close()
		return err
	}
	if e.sent != nil {
		e.sent()
	}
	for {
		message, err := s.Conn.ReceiveMessage(context.Background())
		if err != nil {
			s.Close()
			return err
		}
		switch m := message.(type) {
		case *pgproto3.ReadyForQuery:
			if e.report != nil {
				return e.report
			}
			return nil
		case *pgproto3.CopyInResponse:
			if e.asked { // two would read the source at once
				s.Close()
				return fmt.Errorf("%w: it asks for the data of a COPY once more", inlet.ErrForm)
			}
			e.asked = true
		case *pgproto3.CommandComplete:
			e.outcome.rows = pgconn.NewCommandTag(string(m.CommandTag)).RowsAffected()
		case *pgproto3.NoticeResponse:
			if m.Routine == "CopyFrom" {
				e.outcome.skipped = firstNumber(m.Message)
			}
		case *pgproto3.ErrorResponse:
			e.report = pgconn.ErrorResponseToPgError(m)
		}
		take(message)
	}
}

// firstNumber is the first number in a message. PostgreSQL says nowhere else how
// many rows it has skipped, and in each language it says it with one number.
func firstNumber(message string) int64 {
	digits := strings.TrimLeftFunc(message, func(r rune) bool { return r < '0' || r > '9' })
	end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(digits)
	}
	n, _ := strconv.ParseInt(digits[:end], 10, 64) // 0: there is none
	return n
}
