package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/inlet"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/tracing"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	// probePause is how often an idle server is asked whether it still answers.
	probePause = 5 * time.Second
	// trusted is how long a connection whose last answer was just read is not looked
	// at: what befalls it meanwhile could as well befall what runs on it.
	trusted = time.Millisecond
)

// ErrBusy is the error of [Pool.Acquire] when all connections are at work.
var ErrBusy = errors.New("no PostgreSQL connection is free")

// Pool are the PostgreSQL connections of one user for one purpose. It is safe for
// concurrent use.
type Pool struct {
	name     string
	home     *Home
	pool     *pgxpool.Pool
	slots    *budget.Slots          // one for each connection
	problem  atomic.Pointer[string] // why the last connection was not made
	cleaning sync.WaitGroup

	// Waits is told for how many seconds each Acquire waited. It is set before the
	// pool is used; nil means nobody.
	Waits prometheus.Observer
}

// Open makes a pool of n connections for each owner, and some more that are kept
// for those who have none, as share says; see [budget.NewSlots]. Each is made when
// it is needed, where home's settings lead then. It connects to nothing.
//
// Large rows take memory of b; nil means no limit.
func Open(ctx context.Context, name string, home *Home, n int, share float64, limits Limits, b *budget.Budget) (*Pool, error) {
	slots := budget.NewSlots(n, share)
	config, err := home.settings.PoolConfig(int32(slots.Total()))
	if err != nil {
		return nil, err
	}
	if b != nil {
		config.ConnConfig.BuildFrontend = inlet.Frontend(b, "rows for "+name)
	}
	refresh, defaults := config.BeforeConnect, defaultsFor(limits)
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		home.prepare(c, defaults)
		return refresh(ctx, c)
	}
	config.PrepareConn = usable
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open connections for %s: %w", name, err)
	}
	p := &Pool{name: name, home: home, pool: pool, slots: slots}
	home.add(pool)
	waiting := "not connected yet"
	p.problem.Store(&waiting)
	return p, nil
}

// usable keeps the pool from handing out a connection that the server has closed
// meanwhile, since a run on it could only be answered unknown, and one to a server
// that the name does not lead to any more.
func usable(ctx context.Context, conn *pgx.Conn) (bool, error) {
	s := Of(conn.PgConn())
	if s.Elsewhere() {
		return false, nil
	}
	if time.Since(s.answered) < trusted {
		return true, nil
	}
	switch peek(conn.PgConn().Conn()) {
	case arrivedNothing:
		return true, nil
	case arrivedUnknown:
		ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
		defer cancel()
		return conn.Ping(ctx) == nil, nil
	}
	return false, nil
}

// Ourselves is the caller in whose name this program does work of its own.
const Ourselves = "\x00"

// NoClient is the caller in whose name scripts are run that no client has asked for.
const NoClient = "\x00\x00"

// Acquire returns the session of a free connection, which [Session.GiveBack]
// gives back, out of owner's share, for work in the name of a caller; empty means
// that nobody vouches for one. It waits for one for 5 s at most; then the
// error is [ErrBusy]. Other errors mean that PostgreSQL cannot be reached, or are
// ctx's.
func (p *Pool) Acquire(ctx context.Context, owner, caller string) (*Session, error) {
	return p.AcquireFor(ctx, owner, caller, nil)
}

// Waiter is work that may be done on another's connection while it waits for its own.
type Waiter interface {
	// Waits is called when it begins to wait, and closes what it returns when somebody
	// else does the work.
	Waits() <-chan struct{}
	// Granted is called when there is a connection for it, and reports false where
	// somebody else does the work.
	Granted() bool
}

// ErrTaken is the error of [Pool.AcquireFor] for work that somebody else does.
var ErrTaken = errors.New("what waited for a connection is done on another")

// AcquireFor is Acquire for a waiter; nil is none.
func (p *Pool) AcquireFor(ctx context.Context, owner, caller string, w Waiter) (*Session, error) {
	began := time.Now()
	s, err := p.get(ctx, owner, caller, w)
	p.waited(ctx, began, err)
	return s, err
}

// OthersWait reports whether somebody else than owner waits for a connection.
func (p *Pool) OthersWait(owner string) bool { return p.slots.OthersWait(owner) }

// waited tells how long somebody has waited, and what came of it.
func (p *Pool) waited(ctx context.Context, began time.Time, err error) {
	now := time.Now()
	if p.Waits != nil {
		p.Waits.Observe(now.Sub(began).Seconds())
	}
	if span := tracing.Active(ctx); span.Recorded() {
		span.Past("pool wait", began, now, trace.SpanKindInternal, failureOf(err), attribute.String("pgbridge.pool", p.name))
	}
}

func (p *Pool) get(ctx context.Context, owner, caller string, w Waiter) (*Session, error) {
	limited, cancel := context.WithTimeout(ctx, api.ConnectionWait)
	defer cancel()
	var waits func() <-chan struct{}
	if w != nil {
		waits = w.Waits
	}
	release, err := p.slots.AcquireUnless(limited, owner, waits)
	switch {
	case errors.Is(err, budget.ErrUnneeded):
		return nil, ErrTaken
	case w != nil && !w.Granted():
		if err == nil {
			release()
		}
		return nil, ErrTaken
	case err != nil:
		return nil, errors.Join(ErrBusy, err)
	}
	conn, err := p.acquire(limited)
	if err == nil {
		p.problem.Store(nil)
		s := Of(conn.Conn().PgConn())
		s.cleaning, s.pooled, s.release = &p.cleaning, conn, release
		s.PassTo(ctx, caller)
		return s, nil
	}
	release()
	var connect *pgconn.ConnectError
	if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &connect) {
		return nil, errors.Join(ErrBusy, err)
	}
	p.fail(err)
	return nil, err
}

// failureOf says for a span why there is no connection.
func failureOf(err error) string {
	switch {
	case err == nil, errors.Is(err, ErrTaken):
		return ""
	case errors.Is(err, ErrBusy):
		return string(api.CodeBusy)
	}
	return string(api.CodeUnavailable)
}

// acquire is the pool's own, once more where only the way of setting the sessions
// up was refused.
func (p *Pool) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := p.pool.Acquire(ctx)
	if p.home.refused(err) {
		conn, err = p.pool.Acquire(ctx)
	}
	return conn, err
}

// GiveBack gives the connection back to its pool, clean; reset makes it a new
// session. It does not block: what is left to be cleaned is in the background.
func (s *Session) GiveBack(reset bool) {
	pooled, release := s.pooled, s.release
	if s.Lost() || !s.used && !reset {
		pooled.Release()
		release()
		return
	}
	s.cleaning.Go(func() {
		if reset {
			s.Reset(context.Background())
		} else {
			s.Clean(context.Background())
		}
		pooled.Release()
		release()
	})
}

// Close waits until all connections were given back, and closes them.
func (p *Pool) Close() {
	p.cleaning.Wait()
	p.pool.Close()
}

// Problem says why the last attempt to use PostgreSQL failed; empty means that it
// did not.
func (p *Pool) Problem() string {
	if problem := p.problem.Load(); problem != nil {
		return *problem
	}
	return ""
}

// Name is what the connections are for.
func (p *Pool) Name() string { return p.name }

// Stat is how a pool is used.
type Stat struct {
	Used, Idle int // connections
	Most       int // that there may be
	Waiting    int // who wait for one
}

// Stat returns how the pool is used now.
func (p *Pool) Stat() Stat {
	stat := p.pool.Stat()
	return Stat{Used: int(stat.AcquiredConns()), Idle: int(stat.IdleConns()), Most: p.slots.Total(), Waiting: p.slots.Waiting()}
}

func (p *Pool) fail(err error) {
	text := postgres.Explain(err).String()
	p.problem.Store(&text)
}

// probe asks the server whether it answers, unless all connections are at work,
// which is answer enough.
func (p *Pool) probe(ctx context.Context) error {
	if stat := p.pool.Stat(); stat.AcquiredConns() == stat.MaxConns() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, api.ConnectionWait)
	defer cancel()
	conn, err := p.acquire(ctx)
	if err != nil {
		p.fail(err)
		return err
	}
	defer conn.Release()
	if err := conn.Ping(ctx); err != nil {
		p.fail(err)
		return err
	}
	p.problem.Store(nil)
	return nil
}

// Watch probes again and again until ctx ends, so that [Pool.Problem] is true
// also when nothing is asked.
func (p *Pool) Watch(ctx context.Context) error {
	for {
		pause := probePause
		if p.probe(ctx) != nil {
			pause = time.Second
		}
		if !wait.For(ctx, pause) {
			return nil
		}
	}
}
