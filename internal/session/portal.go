package session

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/inlet"
)

// RowHandler is what [Pipeline.Take] does with an answer.
type RowHandler struct {
	// Fields takes the columns, before any row. After an error the rows are
	// thrown away.
	Fields func([]pgproto3.FieldDescription) error
	// Row takes one row in the text format, which is valid until it returns.
	Row func(values [][]byte)
}

// Ask asks for the next rows of an open cursor, at most so many, without FETCH:
// a cursor is a portal of the protocol, which executes it by its name. So
// PostgreSQL sends each row when it has found it, where a FETCH gathers all of
// them first. What waits in the pipeline, if it is open, is sent along. Each Ask
// is answered to one [Pipeline.Take], and nothing else may be done with the
// connection in between.
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
func (p *Pipeline) Ask(portal string, rows int) error {
	request := &p.Session.request
	if p.open && p.asked == 0 {
		request.addSync()
	}
	request.addDescribe('P', portal)
	request.addExecute(portal, rows)
	request.addSync()
	p.asked++
	return request.send(p.answers.stopped, p.Session.Conn)
}

// Asked is how many answers are still to be taken.
func (p *Pipeline) Asked() int { return p.asked }

// Take waits for the answer to the first Ask that has none yet; read takes the
// results of what was sent along. It reports whether the cursor has no more rows.
// An error of PostgreSQL's comes as it is.
func (p *Pipeline) Take(ctx context.Context, read Reader, to RowHandler) (ended bool, err error) {
	if p.open {
		err = p.results(read)
		p.Close()
		if p.Session.Lost() {
			p.asked = 0
			return false, err
		}
	}
	done := p.Session.CancelOn(ctx)
	ended, taking := p.Session.takeRows(to)
	done()
	if p.asked--; p.Session.Lost() {
		p.asked = 0
	}
	if err == nil {
		err = taking
	}
	return ended, err
}

// takeRows reads up to the end of an answer.
func (s *Session) takeRows(to RowHandler) (ended bool, err error) {
	for columns := -1; ; { // none are described
		message, broken := s.Conn.ReceiveMessage(context.Background())
		if broken != nil {
			s.Close()
			return false, broken
		}
		switch m := message.(type) {
		case *pgproto3.RowDescription:
			columns = len(m.Fields)
			err = to.Fields(m.Fields)
		case *pgproto3.DataRow:
			if len(m.Values) != columns {
				s.Close()
				return false, fmt.Errorf("%w: a row of %d columns, not %d", inlet.ErrForm, len(m.Values), columns)
			}
			if err == nil {
				to.Row(m.Values)
			}
		case *pgproto3.CommandComplete:
			ended = true
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			return ended && err == nil, err
		case *pgproto3.PortalSuspended, *pgproto3.NoticeResponse, *pgproto3.ParameterStatus, *pgproto3.NotificationResponse:
		default:
			s.Close()
			return false, fmt.Errorf("PostgreSQL answered the execution of a portal with %T: %w", m, errOutOfStep)
		}
	}
}

// Drain takes the answers that nobody has.
func (p *Pipeline) Drain(ctx context.Context, read Reader) {
	for p.asked > 0 {
		_, _ = p.Take(ctx, read, RowHandler{
			Fields: func([]pgproto3.FieldDescription) error { return nil },
			Row:    func([][]byte) {},
		})
	}
}
