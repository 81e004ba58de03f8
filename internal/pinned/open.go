package pinned

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// New returns transactions that understand their own verbs and more.
func New(config Config, more map[string]Verb) *Transactions {
	p := &Transactions{
		config: config, subject: config.Prefix + ".tx." + config.Replica, stopped: make(chan struct{}),
		open: make(map[string]*Transaction), ends: make(map[string]end),
	}
	p.verbs = p.ownVerbs()
	maps.Copy(p.verbs, more)
	return p
}

// Begin pins a connection of the pool and opens a transaction on it. It blocks
// until one is free, for 5 s at most. The error is for the client. Owner is whose
// share of the connections it uses.
func (p *Transactions) Begin(ctx context.Context, pool *session.Pool, caller, owner string, modes execution.Modes, idle time.Duration) (*Transaction, error) {
	t, _, err := p.begin(ctx, pool, &execution.Call{Caller: caller, Owner: owner}, modes, idle)
	return t, err
}

// begin does so for a call. If the call has a message id that is known already it
// returns the stored reply instead.
func (p *Transactions) begin(ctx context.Context, pool *session.Pool, c *execution.Call, modes execution.Modes, idle time.Duration) (t *Transaction, stored []byte, err error) {
	s, err := execution.Acquire(ctx, pool, c.Owner, c.Caller)
	if err != nil {
		return nil, nil, err
	}
	id, now := rand.Text(), time.Now()
	t = &Transaction{
		id: id, subject: p.subject + "." + id, caller: c.Caller, owner: c.Owner, modes: modes, idle: idle,
		begun: now, lifeEnds: now.Add(p.config.Lifetime), pid: s.Conn.PID(), config: &p.config, session: s, receivers: new(receivers),
		turn: make(chan struct{}, 1), ended: make(chan struct{}), state: StateActive,
	}
	t.forget = func(reason string) { p.remove(t, reason) }
	switch err = t.open(ctx, c); {
	case err != nil:
		s.Rollback(ctx)
		if stored, err = c.Replay(ctx, s, err); err != nil {
			err = c.Failure(ctx, err)
		}
	case !p.add(t):
		s.Rollback(ctx)
		err = service.Errorf(service.CodeUnavailable, "pgbridge is stopping")
	default:
		p.config.Begun.Inc()
		t.lease()
		return t, nil, nil
	}
	s.GiveBack(false)
	return nil, stored, err
}

const showModesSQL = `SELECT pg_catalog.current_setting('transaction_isolation'),
	pg_catalog.current_setting('transaction_read_only'), pg_catalog.current_setting('transaction_deferrable')`

// open sends BEGIN, with the message id if there is one. The idle limit set here
// holds whatever is rolled back to.
func (t *Transaction) open(ctx context.Context, c *execution.Call) error {
	p := session.Pipeline{Session: t.session}
	p.Open(ctx)
	defer p.Close()
	if c.ID == nil {
		p.Own(session.StepOwn, t.modes.Begin())
	} else {
		c.Begin(&p)
	}
	execution.SetPinned(&p, t.caller, t.lifeEnds, t.idle)
	p.Show(3, showModesSQL)
	return p.Sync(func(step session.Step, result any) error {
		if r, ok := result.(*session.Result); ok && step.Kind == session.StepShow {
			return t.readModes(r)
		}
		return nil
	})
}

// readModes takes what the transaction's modes really are.
func (t *Transaction) readModes(r *session.Result) error {
	if !r.NextRow() {
		return errors.New("PostgreSQL does not show the modes of a transaction")
	}
	readOnly, deferrable := string(r.Values()[1]) == "on", string(r.Values()[2]) == "on"
	t.modes = execution.Modes{Isolation: script.Isolation(r.Values()[0]), ReadOnly: &readOnly, Deferrable: &deferrable}
	return nil
}

// Stop rolls back every transaction, each as soon as what is being done on it
// is done, and refuses new ones. It returns when all have ended. When ctx ends
// nothing is waited for any more.
func (p *Transactions) Stop(ctx context.Context) {
	var ends sync.WaitGroup
	for _, t := range p.refuseMore() {
		ends.Go(func() { t.endAfterWork(ctx, "pgbridge is stopping") })
	}
	ends.Wait()
	close(p.stopped)
}

// refuseMore makes this replica a stopping one and returns what is open.
func (p *Transactions) refuseMore() []*Transaction {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	all := make([]*Transaction, 0, len(p.open))
	for _, t := range p.open {
		all = append(all, t)
	}
	return all
}
