package cursors

import (
	"context"

	"github.com/pgbridge/pgbridge/internal/execution"
)

// fetch makes a move and puts the rows that it goes over into the page. It
// reports whether the end in its direction was reached.
func (c *cursor) fetch(ctx context.Context, w *execution.Execution, m move, p *page) (done bool, err error) {
	target, err := c.target(ctx, w, m)
	switch {
	case err != nil:
		return false, err
	case m.direction == forward, m.direction == backward:
		if err = c.moveTo(ctx, w, c.at.client); err == nil {
			err = c.fill(ctx, w, m, p)
		}
	case m.direction == stay && !c.at.onRow():
	case target == 0:
		err = c.moveTo(ctx, w, 0)
	default:
		if err = c.moveTo(ctx, w, target-1); err == nil {
			err = c.fill(ctx, w, move{forward, 1}, p)
		}
	}
	if err == nil {
		err = c.sync(ctx, w)
	}
	return c.at.done(m), err
}

// fill puts rows into the page from where the cursor stands, at most as many as
// the move goes over, until the page is full.
func (c *cursor) fill(ctx context.Context, w *execution.Execution, m move, p *page) error {
	if m.direction == backward && c.at.client == 0 {
		return nil
	}
	n := m.n - c.fillFromAhead(m.n, p)
	for n > 0 && !p.full {
		if m.direction == forward && c.at.exhausted() { // what was read ahead was the rest
			c.at = c.at.caughtUp()
			break
		}
		k := c.sizes.batch(n, p.room(), c.ahead.maxRow)
		if err := c.read(ctx, w, m.direction, k, p); err != nil {
			return err
		}
		if c.at.done(m) {
			break
		}
		n -= k
	}
	if !p.refused {
		return nil
	}
	if c.at.adrift && c.at.scroll { // the client wants the row's number
		if err := c.count(ctx, w); err != nil {
			return err
		}
	}
	return tooLarge(c.at.client)
}

// fillFromAhead puts up to n of the rows that were read ahead into the page.
func (c *cursor) fillFromAhead(n int64, p *page) (served int64) {
	for served < n && c.ahead.len() > 0 {
		if p.offerEncoded(c.ahead.first()) == left {
			return served
		}
		served++
		c.at = c.at.answered(c.at.client + 1)
		c.ahead.drop(1)
	}
	return served
}
