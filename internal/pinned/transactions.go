package pinned

import (
	"context"
	"sync"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/service"
)

// Transactions are the pinned transactions of this replica. They are safe for
// concurrent use.
type Transactions struct {
	config  Config
	subject string // <prefix>.tx.<replica>
	verbs   map[string]Verb
	stopped chan struct{} // closed when all have ended

	mu       sync.Mutex // guards the rest
	stopping bool
	open     map[string]*Transaction
	ends     map[string]end // of those that ended last
	order    []string       // their ids, a ring
	next     int            // in order, once it is full
}

// end is what is remembered of a transaction.
type end struct {
	reason    string
	receivers *receivers // nil: none
}

// Replica is this replica's token in the subjects of its transactions.
func (p *Transactions) Replica() string { return p.config.Replica }

// add makes requests reach a transaction, unless this replica is stopping.
func (p *Transactions) add(t *Transaction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopping {
		p.open[t.id] = t
	}
	return !p.stopping
}

// get returns an open transaction, or the reason why there is none.
func (p *Transactions) get(id string) (*Transaction, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.open[id]; t != nil {
		return t, nil
	}
	if ended, known := p.ends[id]; known {
		return nil, gone(ended.reason)
	}
	return nil, gone("it is not known here")
}

// reason returns why a transaction has ended, if that is remembered.
func (p *Transactions) reason(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ends[id].reason
}

// receivers returns those of a transaction, whether it is open or has ended.
func (p *Transactions) receivers(id string) *receivers {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.open[id]; t != nil {
		return t.receivers
	}
	return p.ends[id].receivers
}

// remove forgets a transaction, but for how it ended.
func (p *Transactions) remove(t *Transaction, reason string) {
	ended := end{reason: reason}
	if !t.receivers.empty() {
		ended.receivers = t.receivers
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, t.id)
	p.ends[t.id] = ended
	if len(p.order) < api.RememberedEnds {
		p.order = append(p.order, t.id)
		return
	}
	delete(p.ends, p.order[p.next])
	p.order[p.next] = t.id
	p.next = (p.next + 1) % api.RememberedEnds
}

// Open returns how many transactions are open, and how long the oldest of them is.
func (p *Transactions) Open() (n int, oldest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.open {
		oldest = max(oldest, p.config.Lifetime-time.Until(t.lifeEnds))
	}
	return len(p.open), oldest
}

func (p *Transactions) isStopping() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopping
}

// Verb is a kind of request on a pinned transaction: <tx>.<verb>, with further
// tokens only where it says so.
type Verb struct {
	// Serve answers a request. Nil means that requests reach only receivers.
	Serve func(ctx context.Context, t *Transaction, request *service.Request)
	// More says that further tokens may follow the verb.
	More bool
	// Now says that a request is served at once, beside the one that has the
	// transaction's turn.
	Now bool
	// Held says that it is served in the state held too.
	Held bool
	// Late returns the answer to a request that comes after the transaction
	// has ended for a reason; false means gone. The request's first token is
	// the transaction's id. Nil means gone.
	Late func(request *service.Request, reason string) (service.Reply, bool)
	// Receives says that requests to <tx>.<verb>.<id> reach the [Receiver] that
	// the transaction has under this id.
	Receives bool
	// Missing is what the sender is told where there is none.
	Missing string
}
