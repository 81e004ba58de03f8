package pinned

import (
	"context"
	"errors"

	"github.com/pgbridge/pgbridge/internal/service"
)

// do gives work the connection when it is free, under a context that ends when
// the transaction does. What work leaves behind decides on the state: outside a
// transaction it has ended, for the reason that work returns.
func (t *Transaction) do(ctx context.Context, work func(context.Context) (reason string, err error)) error {
	select {
	case <-t.turn:
	case <-t.ended:
		return t.gone()
	case <-ctx.Done():
		return errNoTime()
	}
	ctx, err := t.start(ctx)
	if err != nil {
		t.turn <- struct{}{}
		return err
	}
	returned := false
	defer func() {
		if !returned {
			t.abandon()
		}
	}()
	reason, err := work(ctx)
	t.session.Settle(ctx)
	returned = true
	return t.stop(reason, err)
}

func errNoTime() error {
	return service.Errorf(service.CodeTimeout, "the time ran out before the request was served")
}

// abandon ends the transaction during a panic of its work: nobody knows what
// the connection is in the middle of, and nobody else would give it back.
func (t *Transaction) abandon() {
	t.session.Close()
	t.mu.Lock()
	t.cancel()
	t.cancel = nil
	t.mu.Unlock()
	t.finish("a defect has stopped its work")
}

// start marks the transaction as busy.
func (t *Transaction) start(ctx context.Context) (context.Context, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending != "" {
		return nil, t.goneLocked()
	}
	ctx, t.cancel = context.WithDeadline(ctx, t.lifeEnds)
	t.over = ""
	return ctx, nil
}

// stop marks the transaction as idle and gives the turn back, or ends it where
// it has. It returns the error of the work, or the reason for which the work was
// cancelled.
func (t *Transaction) stop(reason string, err error) error {
	ended, reason, err := t.look(reason, err)
	if ended {
		t.finish(reason)
	} else {
		t.turn <- struct{}{}
	}
	return err
}

// look finds out what became of the transaction: whether it has ended, why, and
// what the work's client is told.
func (t *Transaction) look(reason string, err error) (bool, string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel()
	t.cancel = nil
	if err != nil && t.ending != "" && !isUnknown(err) {
		err = t.goneLocked()
	}
	switch status := t.session.Conn.TxStatus(); {
	case t.session.Lost():
		if isUnknown(err) { // then nobody has rolled it back either
			t.ending = lostReason
		}
		return true, lostReason, err
	case status == 'I' && t.held > 0 && (err == nil || t.state == StateHeld):
		t.state = StateHeld
	case status == 'I':
		if err == nil { // COMMIT was faster than who wanted to end it
			t.ending = reason
		}
		return true, reason, err
	case status == 'E':
		t.state = StateFailed
	default:
		t.state = StateActive
	}
	t.renewLocked()
	return false, "", err
}

func isUnknown(err error) bool {
	var failure *service.Error
	return errors.As(err, &failure) && failure.Code == service.CodeUnknown
}
