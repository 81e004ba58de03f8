package execution

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgbridge/pgbridge/internal/session"
)

const (
	// mostTogether is how many calls are sent at a time.
	mostTogether = 8
	// smallCall is how many bytes of parameters a call may have that is sent with others:
	// what is gathered for a round trip is counted by nobody.
	smallCall = 1 << 10
	// quickRun is how long a program may have taken to be sent with others, whom it
	// keeps waiting.
	quickRun = 5 * time.Millisecond
	// shyFor is how many calls are run alone after some that could not be run together.
	shyFor = 256
	// togetherFor bounds how long calls wait for each other. Then those that have no
	// result are made alone.
	togetherFor = 50 * time.Millisecond
	// dearCall is how much longer a call may make a round trip, on average, for it to be
	// sent along where there is a connection for it: PostgreSQL makes one after the other.
	dearCall = 500 * time.Microsecond
)

// company is the calls of a program that cannot write which come at the same time, or
// wait for a connection. It is safe for concurrent use.
type company struct {
	took  atomic.Int64 // how long the last one took that ran alone, in ns; 0: none has
	shy   atomic.Int64 // how many more are run alone
	each  atomic.Int64 // by how much a call makes a round trip longer on average, in ns
	apart atomic.Int64 // how many more run alone before others are sent together that need not wait

	mu    sync.Mutex // guards seats, and of each what it says
	seats []*seat    // in order
}

// seat is a call that another one of its program may take along.
type seat struct {
	company  *company
	pool     *session.Pool
	caller   string
	owner    string
	deadline time.Time
	open     func(s *session.Session, buffer []byte) part // its execution on somebody's session
	sits     bool                                         // it is among its company's seats, or taken; guarded as they are
	taken    bool                                         // somebody runs it who has a connection; guarded likewise
	waits    chan struct{}                                // closed when it is taken; nil: nobody waits for that; guarded likewise
	ended    chan struct{}                                // closed when that has ended; nil: it is not taken
	body     []byte                                       // then; nil: it is to be run alone
}

// part is an execution that is one of several in a round trip.
type part interface {
	// ready reports whether it can be sent at once.
	ready(ctx context.Context) bool
	// share sends all of it.
	share(ctx context.Context, p *session.Pipeline) error
	// read takes its results.
	read(s session.Step, result any) error
	// answer returns the body of its reply, nil where it is to be run alone.
	answer() []byte
	Close()
}

// Waits implements [session.Waiter].
func (s *seat) Waits() <-chan struct{} {
	s.company.mu.Lock()
	defer s.company.mu.Unlock()
	s.sitLocked()
	s.waits = make(chan struct{})
	if s.taken {
		close(s.waits)
	}
	return s.waits
}

func (s *seat) sitLocked() {
	if !s.sits {
		s.sits = true
		s.company.seats = append(s.company.seats, s)
	}
}

// greet lets others come that are here at the same time, unless each of them would make a
// round trip much longer, and reports whether one of them has taken it along.
func (s *seat) greet() (taken bool) {
	c := s.company
	if c.apart.Load() > 0 {
		return false
	}
	c.mu.Lock()
	s.sitLocked()
	c.mu.Unlock()
	runtime.Gosched()
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.taken
}

// Granted implements [session.Waiter].
func (s *seat) Granted() bool {
	c := s.company
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.seats, s); i >= 0 {
		c.seats = slices.Delete(c.seats, i, i+1)
	}
	return !s.taken
}

// take returns calls that have no connection yet and may share one's that has got one:
// they are of the same pool and caller, and have the time. While others wait there are
// none, since each call of a round trip makes it longer.
func (c *company) take(own *seat) (all []*seat) {
	enough := time.Now().Add(togetherFor)
	if own.deadline.Before(enough) || own.pool.OthersWait(own.owner) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seats = slices.DeleteFunc(c.seats, func(s *seat) bool {
		suits := len(all) < mostTogether-1 && s.pool == own.pool && s.caller == own.caller && s.owner == own.owner && s.deadline.After(enough)
		if suits {
			all = append(all, s)
			s.taken, s.ended = true, make(chan struct{})
			if s.waits != nil {
				close(s.waits)
			}
		}
		return suits
	})
	return all
}

// result waits for the end of a call whose seat was taken. It reports false where it is
// to be run alone.
func (s *seat) result(ctx context.Context) (body []byte, ok bool, err error) {
	select {
	case <-s.ended:
		return s.body, s.body != nil, nil
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// quick reports whether the program has ended quickly, and well, for a while.
func (c *company) quick() bool {
	took := c.took.Load()
	return c.shy.Load() <= 0 && 0 < took && took < int64(quickRun)
}

// ran notes how long a call took that was run alone.
func (c *company) ran(took time.Duration) {
	c.took.Store(int64(took))
	c.shy.Add(-1)
	c.apart.Add(-1)
}

// ranTogether notes how long so many calls took in one round trip.
func (c *company) ranTogether(n int, took time.Duration) {
	if n < 2 {
		return
	}
	each := c.each.Load()
	each += (max(0, int64(took)-c.took.Load())/int64(n-1) - each) / 8
	if each > int64(dearCall) {
		each = 0
		c.apart.Store(shyFor)
	}
	c.each.Store(each)
}

// end ends what was run together with others, on whose seats somebody waits. Where not
// all went well everybody runs alone for a while: it would often be in vain.
func (c *company) end(others []*seat, well bool) {
	if !well {
		c.shy.Store(shyFor)
	}
	for _, s := range others {
		close(s.ended)
	}
}
