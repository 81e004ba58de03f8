package txrunner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Ask asks for the next rows of an open cursor, at most so many, without FETCH:
// a cursor is a portal of the protocol, which executes it by its name. So
// PostgreSQL sends each row when it has found it, where a FETCH gathers all of
// them first. What waits is sent along. Each Ask is answered to one [Work.Take],
// and nothing else may be done with the connection in between.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
func (w *Work) Ask(ctx context.Context, portal string, rows int) error {
	if w.asked == 0 {
		if err := w.start(ctx); err != nil {
			return err
		}
	}
	frontend := w.Conn().Frontend()
	if w.pipeline != nil && w.asked == 0 {
		w.pipeline.SendPipelineSync()
	}
	frontend.SendDescribe(&pgproto3.Describe{ObjectType: 'P', Name: portal})
	frontend.SendExecute(&pgproto3.Execute{Portal: portal, MaxRows: uint32(rows)})
	frontend.SendSync(&pgproto3.Sync{})
	w.asked++
	if w.pipeline != nil {
		return w.pipeline.Flush()
	}
	return frontend.Flush()
}

// Asked is how many answers are still to be taken.
func (w *Work) Asked() int { return w.asked }

// Portion is what [Work.Take] does with an answer.
type Portion struct {
	// Fields takes the columns, before any row. After an error the rows are
	// thrown away.
	Fields func([]pgproto3.FieldDescription) error
	// Row takes one row in the text format, which is valid until it returns.
	Row func(values [][]byte)
}

// Take waits for the answer to the first Ask that has none yet. It reports
// whether the cursor has no more rows. An error of PostgreSQL's comes as it is.
func (w *Work) Take(ctx context.Context, p Portion) (ended bool, err error) {
	if w.pipeline != nil {
		err = w.flow.results(w.read)
		w.flow.close()
		if w.session.lost() {
			w.asked = 0
			return false, err
		}
	}
	release := w.watch(ctx)
	ended, taking := w.take(p)
	release()
	if w.asked--; w.session.lost() {
		w.asked = 0
	}
	if err == nil {
		err = taking
	}
	return ended, err
}

// watch cancels what the connection does when ctx ends, and gives the
// connection up where that does not help.
func (w *Work) watch(ctx context.Context) (release func()) {
	conn, done := w.Conn(), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		_ = conn.Conn().SetDeadline(time.Now().Add(cleanTimeout))
		_ = conn.CancelRequest(limited)
	})
	return func() {
		if !stop() {
			<-done
			_ = conn.Conn().SetDeadline(time.Time{})
		}
	}
}

// take reads up to the end of an answer.
func (w *Work) take(p Portion) (ended bool, err error) {
	for {
		message, broken := w.Conn().ReceiveMessage(context.Background())
		if broken != nil {
			w.session.close()
			return false, broken
		}
		switch m := message.(type) {
		case *pgproto3.RowDescription:
			err = p.Fields(m.Fields)
		case *pgproto3.DataRow:
			if err == nil {
				p.Row(m.Values)
			}
		case *pgproto3.CommandComplete:
			ended = true
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			return ended && err == nil, err
		case *pgproto3.PortalSuspended, *pgproto3.NoticeResponse, *pgproto3.ParameterStatus, *pgproto3.NotificationResponse:
		default:
			w.session.close()
			return false, fmt.Errorf("PostgreSQL answered the execution of a portal with %T: %w", m, errOutOfStep)
		}
	}
}

var errOutOfStep = errors.New("the protocol is out of step")

// drain takes the answers that nobody has.
func (w *Work) drain(ctx context.Context) {
	for w.asked > 0 {
		_, _ = w.Take(ctx, Portion{
			Fields: func([]pgproto3.FieldDescription) error { return nil },
			Row:    func([][]byte) {},
		})
	}
}
