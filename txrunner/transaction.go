package txrunner

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgbridge/pgbridge/internal/service"
)

// State is what can be done with a pinned transaction, as clients see it in the
// header Pgbridge-Transaction.
type State string

// The states; the package's comment draws them.
const (
	StateActive State = "active"
	StateFailed State = "failed"
	StateHeld   State = "held" // committed, but cursors WITH HOLD are left
	StateEnded  State = "ended"
)

// Transaction is a pinned transaction: one connection with one open transaction
// and a lease. The lease is over when no request came for the idle timeout, or
// when the lifetime is over; then the transaction is rolled back.
//
// Its methods are safe for concurrent use. Work on the connection is done one
// at a time.
type Transaction struct {
	id       string
	caller   string
	modes    modes // as PostgreSQL has them, all set
	idle     time.Duration
	lifeEnds time.Time
	pins     *pins
	conn     *pgxpool.Conn
	session  *session

	turn  chan struct{} // holds one token; who takes it may use the session
	ended chan struct{} // closed at the end

	mu       sync.Mutex // guards the rest
	state    State
	ending   string             // why it ends or has ended; empty: it does not
	idleEnds time.Time          // meaningless while busy
	cancel   context.CancelFunc // of what is being done; nil: nothing is
	timer    *time.Timer        // of the lease
	held     int                // cursors that outlive COMMIT
	changes  int64              // how often scripts and savepoints may have changed what there is
	streams  map[string]Acknowledged
	onEnd    []func()
}

// do gives work the connection when it is free, under a context that ends when
// the transaction does. What work leaves behind decides on the state: outside a
// transaction it has ended, for the reason that work returns.
func (t *Transaction) do(ctx context.Context, work func(context.Context, *session) (reason string, err error)) error {
	select {
	case <-t.turn:
	case <-t.ended:
		return t.gone()
	case <-ctx.Done():
		return service.Errorf(service.CodeTimeout, "the time ran out before the request was served")
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
	reason, err := work(ctx, t.session)
	returned = true
	return t.stop(reason, err)
}

// abandon ends the transaction during a panic of its work: nobody knows what
// the connection is in the middle of, and nobody else would give it back.
func (t *Transaction) abandon() {
	t.session.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel()
	t.cancel = nil
	t.finishLocked("a defect has stopped its work")
}

// start marks the transaction as busy.
func (t *Transaction) start(ctx context.Context) (context.Context, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending != "" {
		return nil, t.goneLocked()
	}
	ctx, t.cancel = context.WithDeadline(ctx, t.lifeEnds)
	return ctx, nil
}

// stop marks the transaction as idle and gives the turn back, or as ended where
// it is. It returns the error of the work, or the reason for which the work was
// cancelled.
func (t *Transaction) stop(reason string, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel()
	t.cancel = nil
	if err != nil && t.ending != "" && !isUnknown(err) {
		err = t.goneLocked()
	}
	switch status := t.session.conn.TxStatus(); {
	case t.session.lost():
		if isUnknown(err) { // then nobody has rolled it back either
			t.ending = lostReason
		}
		t.finishLocked(lostReason)
		return err
	case status == 'I' && t.held > 0 && (err == nil || t.state == StateHeld):
		t.state = StateHeld
	case status == 'I':
		if err == nil { // COMMIT was faster than who wanted to end it
			t.ending = reason
		}
		t.finishLocked(reason)
		return err
	case status == 'E':
		t.state = StateFailed
	default:
		t.state = StateActive
	}
	t.renewLocked()
	t.turn <- struct{}{}
	return err
}

// lostReason is why a transaction without its connection has ended.
const lostReason = "the connection to PostgreSQL was lost"

func isUnknown(err error) bool {
	var failure *service.Error
	return errors.As(err, &failure) && failure.Code == service.CodeUnknown
}

// finishLocked ends the transaction for good; whoever calls it has the turn and
// keeps it. A reason that is there already counts.
func (t *Transaction) finishLocked(reason string) {
	if t.ending == "" {
		t.ending = reason
	}
	t.state = StateEnded
	t.timer.Stop()
	t.pins.remove(t.id, t.ending)
	t.pins.giveBack(t.conn)
	close(t.ended)
	for _, f := range t.onEnd {
		f()
	}
}

// end rolls the transaction back, after cancelling what is being done, and
// returns when that has happened. It reports false if it was ending already, or
// ended otherwise: COMMIT can be too far to be cancelled.
func (t *Transaction) end(reason string) bool {
	return t.endIf(func() string { return reason })
}

// endIf is end where there is a reason: due returns it, or nothing, while
// nobody can begin work or renew the lease.
func (t *Transaction) endIf(due func() string) bool {
	t.mu.Lock()
	if t.ending != "" {
		t.mu.Unlock()
		<-t.ended
		return false
	}
	reason := due()
	if reason == "" {
		t.mu.Unlock()
		return false
	}
	t.ending = reason
	busy := t.cancel != nil
	if busy {
		t.cancel()
	}
	t.mu.Unlock()
	select {
	case <-t.ended: // by what was being done
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.ending == reason
	case <-t.turn:
	}
	t.session.rollback(context.Background(), busy)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.finishLocked(reason)
	return true
}

// renewLocked starts the idle clock anew.
func (t *Transaction) renewLocked() {
	t.idleEnds = time.Now().Add(t.idle)
	t.timer.Reset(time.Until(t.expiresLocked()))
}

// expiresLocked returns when the lease is over if nothing happens.
func (t *Transaction) expiresLocked() time.Time {
	if t.idleEnds.Before(t.lifeEnds) {
		return t.idleEnds
	}
	return t.lifeEnds
}

// expire ends the transaction if its lease is over. The timer calls it.
func (t *Transaction) expire() {
	if t.endIf(t.overLocked) {
		t.pins.expired.Inc()
	}
}

// overLocked says why the lease is over. While it is not it sets the timer.
func (t *Transaction) overLocked() string {
	now, next := time.Now(), t.lifeEnds
	if t.cancel == nil {
		next = t.expiresLocked()
	}
	switch {
	case now.Before(next):
		t.timer.Reset(time.Until(next))
		return ""
	case now.Before(t.lifeEnds):
		return "nothing was asked of it for " + t.idle.String()
	}
	return "its lifetime was over"
}

// touch renews the idle lease and returns when the lease is over now.
func (t *Transaction) touch() (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending != "" {
		return time.Time{}, t.goneLocked()
	}
	t.renewLocked()
	return t.expiresLocked(), nil
}

// awaken resets PostgreSQL's own idle clock, if the connection is free: if not,
// what is being done does it.
func (t *Transaction) awaken(ctx context.Context) {
	select {
	case <-t.turn:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	_ = t.session.execute(ctx, ";") // a lost connection shows in the state
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.state == StateEnded:
	case t.session.lost():
		t.finishLocked(lostReason)
	default:
		t.turn <- struct{}{}
	}
}

// current returns the state.
func (t *Transaction) current() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending != "" {
		return StateEnded
	}
	return t.state
}

// gone is the error of a transaction that has ended.
func (t *Transaction) gone() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.goneLocked()
}

func (t *Transaction) goneLocked() error { return gone(t.ending) }

func gone(reason string) error {
	return service.Errorf(service.CodeGone, "the transaction has ended: %s", reason)
}

// serverIdle is PostgreSQL's own limit of idleness, in its words: it frees what
// the transaction holds when this process or its host is dead.
func (t *Transaction) serverIdle() []byte { return milliseconds(t.idle + serverMargin) }
