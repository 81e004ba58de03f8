package pinned

import (
	"context"

	"github.com/pgbridge/pgbridge/internal/service"
)

// OnEnd has f called when the transaction has ended, at once if it has. f must
// not block.
func (t *Transaction) OnEnd(f func()) {
	t.mu.Lock()
	ended := t.state == StateEnded
	if !ended {
		t.onEnd = append(t.onEnd, f)
	}
	t.mu.Unlock()
	if ended {
		f()
	}
}

// finish ends the transaction for good; whoever calls it has the turn and keeps
// it. A reason that is there already counts.
func (t *Transaction) finish(reason string) {
	t.mu.Lock()
	if t.ending == "" {
		t.ending = reason
	}
	t.state = StateEnded
	t.timer.Stop()
	reason, callbacks := t.ending, t.onEnd
	t.onEnd = nil
	t.mu.Unlock()
	t.forget(reason)
	t.session.GiveBack(true)
	for _, f := range callbacks {
		f()
	}
	close(t.ended)
}

// End rolls the transaction back, after cancelling what is being done, and
// returns when that has happened. The first reason counts. It reports false if
// it was ending already, or ended otherwise: COMMIT can be too far to be
// cancelled.
func (t *Transaction) End(reason string) bool {
	t.mu.Lock()
	claimed := t.claimLocked(reason)
	t.mu.Unlock()
	if !claimed {
		<-t.ended
		return false
	}
	return t.bringToEnd(reason)
}

// claimLocked makes a reason the one for which the transaction ends, unless there
// is one already, and cancels what is being done.
func (t *Transaction) claimLocked(reason string) bool {
	if t.ending != "" {
		return false
	}
	t.ending = reason
	if t.cancel != nil {
		t.cancel()
	}
	return true
}

// bringToEnd waits until what is being done is done, and rolls back. It reports
// false if that was the end already.
func (t *Transaction) bringToEnd(reason string) bool {
	select {
	case <-t.ended:
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.ending == reason
	case <-t.turn:
	}
	t.session.Rollback(context.Background())
	t.finish(reason)
	return true
}

// endAfterWork ends the transaction when it is idle, or ctx ends.
func (t *Transaction) endAfterWork(ctx context.Context, reason string) {
	select {
	case <-t.ended:
		return
	case <-ctx.Done():
	case <-t.turn:
		t.turn <- struct{}{}
	}
	t.End(reason)
}

// gone is the error of a transaction that has ended.
func (t *Transaction) gone() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.goneLocked()
}

func (t *Transaction) goneLocked() error { return gone(t.ending) }

// errFailed is what PostgreSQL would say in a transaction in which a statement
// has failed.
func errFailed() error {
	return &service.Error{
		Code: service.CodeSQLError, SQLState: "25P02", Severity: "ERROR",
		Message: "current transaction is aborted, commands ignored until end of transaction block",
	}
}

// errMoved refuses to commit where nobody may look any more.
func errMoved() error {
	return service.Errorf(service.CodeUnavailable, "the connection settings lead to another server than the one that the transaction was begun on; it was rolled back")
}

const wasCommitted = "it was committed"

// lostReason is why a transaction without its connection has ended.
const lostReason = "the connection to PostgreSQL was lost"
