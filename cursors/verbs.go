package cursors

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// fetch serves the verb.
func (s *set) fetch(ctx context.Context, request *service.Request, f service.Fields) ([]byte, error) {
	c, err := s.named(f)
	if err != nil {
		return nil, err
	}
	a, err := readFetch(f, c.task.ReplyLimit())
	if err != nil {
		return nil, err
	}
	if a.number != 0 && a.number == c.answered.number {
		return c.answered.body, c.answered.err
	}
	if a.number != 0 && a.number < c.answered.number {
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"page\": the last one was %d", c.answered.number)
	}
	var body []byte
	err = s.use(ctx, c, request, func(ctx context.Context, w *txrunner.Work) error {
		body, err = s.page(ctx, w, c, a)
		return err
	})
	if err != nil && service.AsError(err).Row == 0 {
		return nil, err
	}
	c.answered = answered{a.number, body, err}
	if err == nil && s.tx.State() == txrunner.StateEnded {
		s.registry.part(s.tx.ID(), parting{c.name, a.number, body})
	}
	return body, err
}

// asked is a request for a page.
type asked struct {
	travel travel
	bytes  int
	number int64 // of the page; 0: none
}

func readFetch(f service.Fields, most int) (asked, error) {
	t, err := readTravel(f, defaultRows)
	if err != nil {
		return asked{}, err
	}
	a := asked{travel: t}
	if a.bytes, err = f.Bytes("max_bytes", most, most); err != nil {
		return asked{}, err
	}
	if err := f.Read("page", "a whole number from 1", &a.number); err != nil {
		return asked{}, err
	}
	if a.number < 0 {
		return asked{}, service.Errorf(service.CodeInvalidRequest, "field \"page\": want a whole number from 1")
	}
	return a, f.End()
}

// page reads one page, and ends the transaction where that was the last.
func (s *set) page(ctx context.Context, w *txrunner.Work, c *cursor, a asked) ([]byte, error) {
	if err := c.allows(a.travel); err != nil {
		return nil, err
	}
	p := c.newPage(pageStart, a.bytes)
	done, err := c.fetch(ctx, w, a.travel, p)
	if errors.Is(err, errGrown) {
		return nil, s.giveUp(ctx, w, c)
	}
	if a.number > 0 {
		c.buffer = p.body // it may be asked for again
	} else {
		c.keep(p.body)
	}
	if err != nil {
		return nil, err
	}
	return p.finish(done), s.endIfOver(ctx, w)
}

// allows refuses what PostgreSQL would.
func (c *cursor) allows(t travel) error {
	if c.scroll {
		return nil
	}
	return t.onlyForward(c.pos)
}

// move serves the verb.
func (s *set) move(ctx context.Context, request *service.Request, f service.Fields) ([]byte, error) {
	c, err := s.named(f)
	if err != nil {
		return nil, err
	}
	t, err := readTravel(f, 1)
	if err != nil {
		return nil, err
	}
	if err := f.End(); err != nil {
		return nil, err
	}
	var moved int64
	var done bool
	err = s.use(ctx, c, request, func(ctx context.Context, w *txrunner.Work) error {
		if err := c.allows(t); err != nil {
			return err
		}
		if moved, done, err = c.move(ctx, w, t); err != nil {
			return err
		}
		return s.endIfOver(ctx, w)
	})
	return fmt.Appendf(nil, `{"moved":%d,"done":%s}`, moved, strconv.FormatBool(done)), err
}

// close serves the verb.
func (s *set) close(ctx context.Context, request *service.Request, f service.Fields) ([]byte, error) {
	c, err := s.named(f)
	if err != nil {
		return nil, err
	}
	if err := f.End(); err != nil {
		return nil, err
	}
	if s.own && s.tx.State() == txrunner.StateFailed {
		if delete(s.cursors, c.name); len(s.cursors) == 0 {
			s.tx.End(lastClosed)
		}
		return []byte(emptyObject), nil
	}
	err = c.task.Later(request).Do(ctx, func(ctx context.Context, w *txrunner.Work) error {
		if err := s.look(ctx, w); err != nil {
			return err
		}
		if s.cursors[c.name] != c {
			return errUnknown(c.name)
		}
		if err := s.drop(ctx, w, c); err != nil {
			return err
		}
		return s.endIfOver(ctx, w)
	})
	return []byte(emptyObject), err
}
