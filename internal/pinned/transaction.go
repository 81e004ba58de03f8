package pinned

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// State is what can be done with a pinned transaction, as clients see it in the
// header Pgbridge-Transaction.
type State string

// The states; the package's comment draws them.
const (
	StateActive State = api.StateActive
	StateFailed State = api.StateFailed
	StateHeld   State = api.StateHeld // committed, but cursors WITH HOLD are left
	StateEnded  State = api.StateEnded
)

// Header is how replies carry a state.
func (s State) Header() nats.Header { return nats.Header{api.HeaderTransaction: {string(s)}} }

// Transaction is a pinned transaction: one connection with one open transaction
// and a lease. The lease is over when no request came for the idle timeout, or
// when the lifetime is over; then the transaction is rolled back.
//
// Its methods are safe for concurrent use. Work on the connection is done one
// at a time.
type Transaction struct {
	id        string
	caller    string
	owner     string          // whose share of connections and memory it uses
	modes     execution.Modes // as PostgreSQL has them, all set
	idle      time.Duration
	begun     time.Time
	lifeEnds  time.Time
	pid       uint32 // of the backend
	subject   string // what its verbs are appended to
	config    *Config
	forget    func(reason string) // takes it off those that are open
	session   *session.Session
	receivers *receivers
	roles     execution.Roles // for whoever has the turn

	turn  chan struct{} // holds one token; who takes it may use the session
	ended chan struct{} // closed at the end

	mu       sync.Mutex // guards the rest
	state    State
	script   string             // what it works on, or did last; empty: nothing that has a name
	ending   string             // why it ends or has ended; empty: it does not
	idleEnds time.Time          // meaningless while busy
	cancel   context.CancelFunc // of what is being done; nil: nothing is
	timer    *time.Timer        // of the lease
	held     int                // cursors that outlive COMMIT
	over     string             // why it is over when this turn is, if it is
	changes  int64              // how often scripts and savepoints may have changed what there is
	scripts  int64              // how often scripts may
	before   []func(context.Context, *execution.Execution) error
	onEnd    []func()
	works    []*Work // that are shown
}

// ID is the transaction's token in subjects, and the key to it.
func (t *Transaction) ID() string { return t.id }

// Caller is who has begun it; empty means that nobody vouches for one.
func (t *Transaction) Caller() string { return t.caller }

// Subject is what its verbs are appended to.
func (t *Transaction) Subject() string { return t.subject }

// Idle is how long it may be without a request, and PostgreSQL without a
// statement while one is being served.
func (t *Transaction) Idle() time.Duration { return t.idle }

// State returns what can be done with it now.
func (t *Transaction) State() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending != "" {
		return StateEnded
	}
	return t.state
}

// Header returns the state as every reply about the transaction carries it.
// Replies to requests on the transaction's own subject get it anyway.
func (t *Transaction) Header() nats.Header { return t.State().Header() }

// Changes returns a number that is another one when a script was run or a
// savepoint rolled back to, so that cursors may have come or gone, and one that is
// another when a script was, so that cursors may have moved.
func (t *Transaction) Changes() (all, scripts int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changes, t.scripts
}

// BeforeScripts has f called before any script of the transaction is run, in its
// turn. What f sends comes first; its error refuses the script, and is for the
// client.
func (t *Transaction) BeforeScripts(f func(context.Context, *execution.Execution) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.before = append(t.before, f)
}

// RunsScript is called, in a turn, by the work that is about to run a script's
// statements.
func (t *Transaction) RunsScript(ctx context.Context, x *execution.Execution) error {
	t.mu.Lock()
	before := t.before
	t.mu.Unlock()
	for _, f := range before {
		if err := f(ctx, x); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
	t.scripts++
	return nil
}

func (t *Transaction) changed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
}

// Hold says how many of the transaction's cursors outlive its COMMIT. It is
// called by the work in whose turn that changes. A transaction with such
// cursors is held after COMMIT, until there are none.
func (t *Transaction) Hold(cursors int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = cursors
	t.roles.Hold(cursors > 0)
}

// Ends gives the reason for which the transaction is over after this turn, where
// that is so: after Commit, or when the last held cursor was closed.
func (t *Transaction) Ends(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = reason
}

func (t *Transaction) endReason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
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

// AddReceiver makes requests to <tx>.<verb>.<id> reach a receiver, until retire is
// called. What retire is given takes the requests that come later, even after the
// transaction has ended, until there is too much of that; nil takes none. An id that
// is in use is refused.
func (t *Transaction) AddReceiver(verb, id string, take Receiver) (retire func(last Receiver), err error) {
	return t.receivers.add(&receiver{verb: verb, id: id, take: take})
}

// AddStream makes acknowledgements of a stream reach it until remove is called.
func (t *Transaction) AddStream(id string, s Acknowledged) (remove func(), err error) {
	retire, err := t.AddReceiver(verbAck, id, func(request *service.Request) bool {
		if len(request.Tokens) != 4 {
			return false
		}
		s.Acknowledge(request)
		return true
	})
	if err != nil {
		return nil, err
	}
	return func() { retire(nil) }, nil
}

func gone(reason string) error {
	return service.Errorf(service.CodeGone, "the transaction has ended: %s", reason)
}
