package txrunner

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// rememberedEnds is how many ended transactions' reasons are kept.
const rememberedEnds = 1000

// pins are the pinned transactions of this replica.
type pins struct {
	runner  *Runner
	replica string
	subject string          // <prefix>.tx.<replica>
	verbs   map[string]Verb // of extensions
	expired prometheus.Counter
	stopped chan struct{} // closed when all have ended

	mu       sync.Mutex // guards the rest
	stopping bool
	open     map[string]*Transaction
	reasons  map[string]string // of those that ended last
	order    []string          // their ids, a ring
	next     int               // in order, once it is full
}

func newPins(r *Runner, replica string) *pins {
	return &pins{
		runner: r, replica: replica, subject: r.config.Prefix + ".tx." + replica, expired: r.metrics.expired,
		verbs: r.pinnedVerbs(), stopped: make(chan struct{}),
		open: make(map[string]*Transaction), reasons: make(map[string]string),
	}
}

// begin pins a connection and opens a transaction on it for a client.
func (p *pins) begin(ctx context.Context, caller string, b beginRequest) (*Transaction, error) {
	t, err := p.pin(ctx, p.runner.pinned, caller, b)
	if err != nil {
		return nil, err
	}
	if err := t.open(ctx, nil); err != nil {
		t.discard(ctx)
		return nil, service.FromPostgres(err, false)
	}
	if err := p.keep(ctx, t); err != nil {
		return nil, err
	}
	return t, nil
}

// beginFor does the same for a call of an extension, in the script's modes. If
// the call has a message id that is known already it returns the stored reply
// instead.
func (p *pins) beginFor(ctx context.Context, c *call) (t *Transaction, replayed []byte, err error) {
	connections := p.runner.pinned
	if c.program.adhoc && p.runner.sql != nil {
		connections = p.runner.sql
	}
	t, err = p.pin(ctx, connections, c.caller, beginRequest{modesOf(c.program.Settings), p.runner.config.IdleTimeout})
	if err != nil {
		return nil, nil, err
	}
	x := &execution{call: c, flow: flow{session: t.session}}
	if err = t.open(ctx, x); err == nil {
		if err = p.keep(ctx, t); err != nil {
			return nil, nil, err
		}
		return t, nil, nil
	}
	x.session.rollback(ctx, ctx.Err() != nil)
	if report := x.idRefused(err); report != nil {
		var done outcome
		if done, err = x.replay(ctx, report); err == nil {
			replayed = done.body
		}
	}
	t.discard(ctx)
	if err != nil {
		return nil, nil, x.failure(ctx, err)
	}
	return nil, replayed, nil
}

// pin takes a connection for a transaction that is not open yet.
func (p *pins) pin(ctx context.Context, from *connections, caller string, b beginRequest) (*Transaction, error) {
	conn, err := from.acquire(ctx)
	if err != nil {
		return nil, err
	}
	return &Transaction{
		id: rand.Text(), caller: caller, modes: b.modes, idle: b.idle,
		lifeEnds: time.Now().Add(p.runner.config.Lifetime),
		pins:     p, conn: conn, session: sessionOf(conn.Conn().PgConn()),
		turn: make(chan struct{}, 1), ended: make(chan struct{}), state: StateActive,
	}, nil
}

// keep begins the lease of an open transaction.
func (p *pins) keep(ctx context.Context, t *Transaction) error {
	if p.add(t) {
		return nil
	}
	t.discard(ctx)
	return service.Errorf(service.CodeUnavailable, "pgbridge is stopping")
}

// discard gives up a transaction that nobody knows yet.
func (t *Transaction) discard(ctx context.Context) {
	t.session.rollback(ctx, ctx.Err() != nil)
	t.conn.Release()
}

// open sends BEGIN, and for an execution with a message id that id. The idle
// limit set here holds whatever is rolled back to.
func (t *Transaction) open(ctx context.Context, x *execution) error {
	f := &flow{session: t.session}
	if x != nil {
		f = &x.flow
	}
	f.open(ctx)
	defer f.close()
	if x == nil || x.id == nil {
		f.own(stepOwn, t.modes.begin())
	} else {
		x.insertID()
	}
	f.own(stepOwn, pinnedSettingsSQL, []byte(t.caller), statementTimeout(t.lifeEnds), []byte(noRole), t.serverIdle())
	f.own(stepShow, showModesSQL)
	return f.sync(func(s step, result any) error {
		if s.kind != stepShow {
			return nil
		}
		return t.readModes(result)
	})
}

const showModesSQL = `SELECT pg_catalog.current_setting('transaction_isolation'),
	pg_catalog.current_setting('transaction_read_only'), pg_catalog.current_setting('transaction_deferrable')`

// readModes takes what the transaction's modes really are.
func (t *Transaction) readModes(result any) error {
	r, ok := result.(*pgconn.ResultReader)
	if !ok || !r.NextRow() || len(r.Values()) != 3 {
		return errors.New("PostgreSQL does not show the modes of a transaction")
	}
	readOnly, deferrable := string(r.Values()[1]) == "on", string(r.Values()[2]) == "on"
	t.modes = modes{script.Isolation(r.Values()[0]), &readOnly, &deferrable}
	return nil
}

// add starts the lease, unless this replica is stopping.
func (p *pins) add(t *Transaction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return false
	}
	p.open[t.id] = t
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(t.idle, t.expire) // stop waits for what it begins
	t.renewLocked()
	t.turn <- struct{}{}
	return true
}

// reason returns why a transaction has ended, if that is remembered.
func (p *pins) reason(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reasons[id]
}

// get returns an open transaction, or the reason why there is none.
func (p *pins) get(id string) (*Transaction, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.open[id]; t != nil {
		return t, nil
	}
	if reason, known := p.reasons[id]; known {
		return nil, gone(reason)
	}
	return nil, gone("it is not known here")
}

// remove forgets a transaction, but for the reason of its end.
func (p *pins) remove(id, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, id)
	p.reasons[id] = reason
	if len(p.order) < rememberedEnds {
		p.order = append(p.order, id)
		return
	}
	delete(p.reasons, p.order[p.next])
	p.order[p.next] = id
	p.next = (p.next + 1) % rememberedEnds
}

// count returns how many transactions are open.
func (p *pins) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

func (p *pins) isStopping() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopping
}

// stop rolls back every transaction, each as soon as what is being done on it
// is done, and refuses new ones. It returns when all have ended. When ctx ends
// nothing is waited for any more.
func (p *pins) stop(ctx context.Context) {
	p.mu.Lock()
	p.stopping = true
	all := make([]*Transaction, 0, len(p.open))
	for _, t := range p.open {
		all = append(all, t)
	}
	p.mu.Unlock()
	var ends sync.WaitGroup
	for _, t := range all {
		ends.Go(func() { t.endAfterWork(ctx, "pgbridge is stopping") })
	}
	ends.Wait()
	close(p.stopped)
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
	t.end(reason)
}

// giveBack returns the connection, as clean as a new one.
func (p *pins) giveBack(conn *pgxpool.Conn) { p.runner.giveBack(conn, resetSQL) }
