package cursors

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	defaultWindow = 8 << 20
	maxWindow     = 64 << 20
	defaultStall  = 30 * time.Second
)

// streaming is a request to push the rest of a cursor.
type streaming struct {
	count  int64 // rows in a chunk, at most
	window int
	stall  time.Duration
}

// readStreaming reads it; a client may be silent for most.
func readStreaming(f service.Fields, most time.Duration) (streaming, error) {
	var s streaming
	var err error
	if s.count, err = readCount(f, defaultRows); err != nil {
		return s, err
	}
	if s.count < 1 {
		return s, service.Errorf(service.CodeInvalidRequest, "field \"count\": want at least 1 row in a chunk")
	}
	if s.window, err = f.Bytes("window_bytes", defaultWindow, maxWindow); err != nil {
		return s, err
	}
	if s.stall, err = f.Duration("stall_ms"); err != nil {
		return s, err
	}
	if s.stall == 0 {
		s.stall = defaultStall
	}
	s.stall = min(s.stall, most)
	return s, f.End()
}

// serveStream serves the verb stream. It has the transaction's turn until the
// stream has ended.
func (r *registry) serveStream(ctx context.Context, t *pinned.Transaction, request *service.Request) {
	f, err := readVerb(request)
	if err == nil {
		err = r.of(t, false, request).stream(ctx, request, f)
	}
	request.Answer(service.Reply{}, err) // unless the stream has
}

// stream returns an error that comes before the stream's first message; a later
// one is told in the stream.
func (s *set) stream(ctx context.Context, request *service.Request, f service.Fields) error {
	c, err := s.named(f)
	if err != nil {
		return err
	}
	asked, err := readStreaming(f, s.tx.Idle())
	if err != nil {
		return err
	}
	id := rand.Text()
	chunks := service.NewChunks(request, service.ChunksConfig{
		Ack: s.tx.Subject() + ".ack." + id + ".", Window: asked.window, Stall: asked.stall, Header: s.tx.Header,
	})
	remove, err := s.tx.AddStream(id, chunks)
	if err != nil {
		return err
	}
	defer remove()
	begun := false
	task := c.task.Later(request)
	task.Deadline = time.Time{} // it lasts as long as the client reads
	err = task.Do(ctx, func(ctx context.Context, w *execution.Execution) error {
		defer s.untold.hear(w)
		defer s.settle()
		if err := s.ready(ctx, w, c); err != nil {
			return err
		}
		p := newPump(c, chunks, asked.count, request.MaxChunk())
		if err := s.reserve(c, p.held()); err != nil {
			return err
		}
		request.Answer(service.Reply{Data: s.begun(id, c, request, asked)}, nil)
		begun = true
		if err := s.pump(ctx, w, c, p); err != nil {
			return err
		}
		if err := chunks.Delivered(ctx); err != nil {
			return err
		}
		return s.endIfOver(ctx, w)
	})
	if !begun {
		return err
	}
	s.finishStream(ctx, chunks, err)
	return nil
}

// ready brings the cursor to where the stream begins.
func (s *set) ready(ctx context.Context, w *execution.Execution, c *cursor) error {
	if err := s.look(ctx, w); err != nil {
		return err
	}
	if err := s.usable(c); err != nil {
		return err
	}
	c.last, c.buffer = answer{}, nil // that page is over
	if c.at.adrift && c.at.scroll {  // a row that fits no message is named by its number
		if err := c.count(ctx, w); err != nil {
			return err
		}
	}
	if err := c.moveTo(ctx, w, c.at.client); err != nil {
		return err
	}
	c.sent = true // the role is
	return c.sync(ctx, w)
}

// begun is the stream's first message.
func (s *set) begun(id string, c *cursor, request *service.Request, asked streaming) []byte {
	return fmt.Appendf(nil, `{"id":%s,"tx":%s,"cursor":%s,"chunk_bytes":%d,"window_bytes":%d,"stall_ms":%d}`,
		quote(id), quote(s.tx.Subject()), quote(c.name), request.MaxChunk(), asked.window, asked.stall.Milliseconds())
}

// finishStream says how it ended. Where the client is gone or has broken the
// rules, a transaction that a cursor has opened is of no use any more.
func (s *set) finishStream(ctx context.Context, chunks *service.Chunks, err error) {
	if err == nil {
		chunks.SetNotices(s.untold.objects)
		s.untold = untold{}
		if err = chunks.End(ctx); err == nil {
			return
		}
	}
	failure := service.AsError(err)
	if s.own && failure.SQLState == "" && failure.Row == 0 {
		s.tx.End("a stream of its cursor was aborted: " + string(failure.Code))
	}
	chunks.Fail(err)
}

// pump runs a stream to the cursor's end. What was read and not sent stays with
// the cursor.
func (s *set) pump(ctx context.Context, w *execution.Execution, c *cursor, p *pump) error {
	before := c.at.client
	err := p.run(ctx, w)
	s.metrics.paged(int(c.at.client - before))
	if ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	p.keep()
	if err != nil && c.ahead.lost {
		return s.giveUp(ctx, w, c)
	}
	return err
}
