package cursors

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/txrunner"
)

// fetch travels and puts the rows that are stepped on into the page. It reports
// whether the end in the direction of travel was reached.
func (c *cursor) fetch(ctx context.Context, w *txrunner.Work, t travel, p *page) (done bool, err error) {
	switch t.kind {
	case forward:
		err = c.run(ctx, w, forward, t.n, p)
		return c.atEnd(), err
	case backward:
		if c.pos > 0 {
			err = c.run(ctx, w, backward, t.n, p)
		}
		return c.pos == 0, err
	case again:
		if c.onRow() {
			err = c.single(ctx, w, c.pos, p)
		}
		return false, err
	}
	target, err := c.target(ctx, w, t)
	if err == nil {
		err = c.single(ctx, w, target, p)
	}
	return !c.onRow(), err
}

// move travels without rows. It returns how many FETCH would have returned.
func (c *cursor) move(ctx context.Context, w *txrunner.Work, t travel) (moved int64, done bool, err error) {
	switch t.kind {
	case forward:
		moved, err = c.advance(ctx, w, t.n)
		return moved, c.atEnd(), err
	case backward:
		moved, err = c.retreat(ctx, w, t.n)
		return moved, c.pos == 0, err
	case relative, absolute:
		var target int64
		if target, err = c.target(ctx, w, t); err == nil {
			err = c.jump(ctx, w, target)
		}
		done = !c.onRow()
	}
	if err == nil && c.onRow() {
		moved = 1
	}
	return moved, done, err
}

// target is the position that a travel to one row names; it may be beyond the
// end. Counted from the end it goes there to find it.
func (c *cursor) target(ctx context.Context, w *txrunner.Work, t travel) (int64, error) {
	switch {
	case t.kind == relative:
		return max(0, c.pos+t.n), nil
	case t.n >= 0:
		return t.n, nil
	}
	if c.last < 0 {
		if _, err := c.advance(ctx, w, all); err != nil {
			return 0, err
		}
	}
	return max(0, c.last+1+t.n), nil
}

// single reads the row at a position.
func (c *cursor) single(ctx context.Context, w *txrunner.Work, target int64, p *page) error {
	switch {
	case target == 0:
		return c.jump(ctx, w, 0)
	case target > c.pos+1:
		if err := c.skip(ctx, w, target-1-c.pos); err != nil {
			return err
		}
	default:
		c.pos = target - 1
	}
	return c.run(ctx, w, forward, 1, p)
}

// jump moves to a position.
func (c *cursor) jump(ctx context.Context, w *txrunner.Work, target int64) error {
	if target > c.pos {
		_, err := c.advance(ctx, w, target-c.pos)
		return err
	}
	c.pos = target
	if c.scroll { // else it is there: nothing moves back
		if err := c.seek(ctx, w, target); err != nil {
			return err
		}
	}
	return c.sync(ctx, w)
}

// advance moves forward by n rows or to the end.
func (c *cursor) advance(ctx context.Context, w *txrunner.Work, n int64) (int64, error) {
	c.moved = 0
	if err := c.skip(ctx, w, n); err != nil {
		return 0, err
	}
	return c.moved, c.sync(ctx, w)
}

// skip sends a move forward by n rows or to the end. Where it ends is known
// after a sync.
func (c *cursor) skip(ctx context.Context, w *txrunner.Work, n int64) error {
	if c.scroll {
		if err := c.seek(ctx, w, c.pos); err != nil {
			return err
		}
	}
	some := min(n, int64(c.held.len()))
	c.held.drop(some)
	c.pos += some
	c.moved += some
	if n == some {
		return nil
	}
	if n != all {
		n -= some
	}
	if c.last >= 0 && c.server > c.last {
		c.pos = c.server
		return nil
	}
	for n > math.MaxInt32 && n != all { // more than a MOVE can take
		if err := c.forward(ctx, w, math.MaxInt32); err != nil {
			return err
		}
		n -= math.MaxInt32
	}
	return c.forward(ctx, w, n)
}

// forward sends one MOVE.
func (c *cursor) forward(ctx context.Context, w *txrunner.Work, n int64) error {
	return c.send(ctx, w, fmt.Sprintf("MOVE FORWARD %s FROM %s", countWord(n), c.quoted), func(from *pgconn.ResultReader) error {
		return c.land(from, forward, n)
	})
}

// retreat moves back by n rows or to before the first.
func (c *cursor) retreat(ctx context.Context, w *txrunner.Work, n int64) (int64, error) {
	c.moved = 0
	err := c.seek(ctx, w, c.pos)
	if err == nil {
		err = c.send(ctx, w, fmt.Sprintf("MOVE BACKWARD %s FROM %s", countWord(n), c.quoted), func(from *pgconn.ResultReader) error {
			return c.land(from, backward, n)
		})
	}
	if err != nil {
		return 0, err
	}
	return c.moved, c.sync(ctx, w)
}

// land takes the result of a MOVE by n.
func (c *cursor) land(from *pgconn.ResultReader, direction kind, n int64) error {
	tag, err := from.Close()
	if err != nil {
		return err
	}
	moved := tag.RowsAffected()
	c.moved += moved
	c.arrive(direction, moved, moved < n, false)
	c.pos = c.server
	return nil
}

func countWord(n int64) string {
	if n == all {
		return "ALL"
	}
	return fmt.Sprint(n)
}
