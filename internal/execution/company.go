package execution

import (
	"context"
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
)

// company is the calls of a program that cannot write which wait for a connection. It is
// safe for concurrent use.
type company struct {
	took atomic.Int64 // how long the last one took that ran alone, in ns; 0: none has
	shy  atomic.Int64 // how many more are run alone

	mu    sync.Mutex // guards seats
	seats []*seat    // in order
}

// seat is a call that waits.
type seat struct {
	company  *company
	pool     *session.Pool
	caller   string
	owner    string
	deadline time.Time
	open     func(s *session.Session, buffer []byte) part // its execution on somebody's session
	taken    chan struct{}                                // closed when somebody runs it who has a connection; nil: it does not wait
	ended    chan struct{}                                // closed when that has ended
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
	s.taken, s.ended = make(chan struct{}), make(chan struct{})
	s.company.seats = append(s.company.seats, s)
	return s.taken
}

// Granted implements [session.Waiter].
func (s *seat) Granted() bool {
	if s.taken == nil { // it did not have to wait
		return true
	}
	c := s.company
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.seats, s)
	if i >= 0 {
		c.seats = slices.Delete(c.seats, i, i+1)
	}
	return i >= 0
}

// take returns calls that wait for a connection and may share one's that has got one:
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
			close(s.taken)
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
