package cursors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/service"
)

// serveFetch serves the verb fetch.
func (s *set) serveFetch(ctx context.Context, request *service.Request, f service.Fields) ([]byte, error) {
	c, err := s.named(f)
	if err != nil {
		return nil, err
	}
	a, err := readFetch(f, c.task.ReplyLimit())
	if err != nil {
		return nil, err
	}
	if a.number != 0 && a.number == c.last.number {
		return c.last.body, c.last.err
	}
	if a.number != 0 && a.number < c.last.number {
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"page\": the last one was %d", c.last.number)
	}
	var body []byte
	err = s.use(ctx, c, request, func(ctx context.Context, w *execution.Execution) error {
		body, err = s.page(ctx, w, c, a)
		return err
	})
	if err != nil && service.AsError(err).Row == 0 {
		return nil, err
	}
	if err == nil {
		body = s.untold.tell(body, c.task.ReplyLimit())
	}
	c.last = answer{a.number, body, err}
	if err == nil && s.tx.State() == pinned.StateEnded {
		s.partings.keep(s.tx.ID(), parting{c.name, a.number, body, request.Memory()}, s.tx.Idle())
	}
	return body, err
}

// asked is a request for a page.
type asked struct {
	move   move
	bytes  int
	number int64 // of the page; 0: none
}

func readFetch(f service.Fields, most int) (asked, error) {
	m, err := readMove(f, defaultRows)
	if err != nil {
		return asked{}, err
	}
	a := asked{move: m}
	if a.bytes, err = f.Bytes("max_bytes", most, most); err != nil {
		return asked{}, err
	}
	value, numbered := f["page"]
	numbered = numbered && string(value) != "null" // null means that it is not given
	if err := f.Read("page", "a whole number from 1", &a.number); err != nil {
		return asked{}, err
	}
	if numbered && a.number < 1 {
		return asked{}, service.Errorf(service.CodeInvalidRequest, "field \"page\": want a whole number from 1")
	}
	return a, f.End()
}

// page reads one page, and ends the transaction where that was the last.
func (s *set) page(ctx context.Context, w *execution.Execution, c *cursor, a asked) ([]byte, error) {
	if err := c.at.allows(a.move); err != nil {
		return nil, err
	}
	if err := s.reserve(c, a.bytes); err != nil {
		return nil, err
	}
	p := c.newPage(pageStart, a.bytes)
	done, err := c.fetch(ctx, w, a.move, p)
	if errors.Is(err, errGrown) {
		return nil, s.giveUp(ctx, w, c)
	}
	c.answers(p)
	if a.number > 0 {
		c.buffer = p.body // it may be asked for again
	} else {
		c.keep(p.body)
	}
	if err != nil {
		return nil, err
	}
	s.metrics.paged(p.rows)
	return p.finish(done), s.endIfOver(ctx, w)
}

// serveMove serves the verb move.
func (s *set) serveMove(ctx context.Context, request *service.Request, f service.Fields) ([]byte, error) {
	c, err := s.named(f)
	if err != nil {
		return nil, err
	}
	m, err := readMove(f, 1)
	if err != nil {
		return nil, err
	}
	if err := f.End(); err != nil {
		return nil, err
	}
	var moved int64
	var done bool
	err = s.use(ctx, c, request, func(ctx context.Context, w *execution.Execution) error {
		if err := c.at.allows(m); err != nil {
			return err
		}
		if moved, done, err = c.move(ctx, w, m); err != nil {
			return err
		}
		return s.endIfOver(ctx, w)
	})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(api.MoveReply{Moved: moved, Done: done})
	if err != nil {
		return nil, fmt.Errorf("encode a reply: %w", err)
	}
	return s.untold.tell(body, c.task.ReplyLimit()), nil
}

// serveClose serves the verb close.
func (s *set) serveClose(ctx context.Context, request *service.Request, f service.Fields) ([]byte, error) {
	c, err := s.named(f)
	if err != nil {
		return nil, err
	}
	if err := f.End(); err != nil {
		return nil, err
	}
	if s.own && s.tx.State() == pinned.StateFailed {
		if delete(s.cursors, c.name); len(s.cursors) == 0 {
			s.tx.End(lastClosed)
		}
		return []byte(emptyObject), nil
	}
	err = c.task.Later(request).Do(ctx, func(ctx context.Context, w *execution.Execution) error {
		if err := s.look(ctx, w); err != nil {
			return err
		}
		if s.cursors[c.name] != c {
			return errUnknown(c.name)
		}
		defer s.settle()
		if err := s.drop(ctx, w, c); err != nil {
			return err
		}
		return s.endIfOver(ctx, w)
	})
	return []byte(emptyObject), err
}
