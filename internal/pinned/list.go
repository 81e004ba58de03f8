package pinned

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/internal/execution"
)

// keyLength is how many digits tell one transaction from another.
const keyLength = 12

// Open is a pinned transaction as people see it. Nothing in it lets anybody use the
// transaction.
type Open struct {
	// Key tells it from others: a hash of its id, which is a key to it.
	Key    string
	Caller string // who has begun it; empty: nobody vouches for one
	Script string // what it works on, or did last; empty: its client's own SQL, or nothing yet
	State  State
	Busy   bool // a request is being served on it
	Begun  time.Time
	// Expires is when it ends if nothing happens.
	Expires  time.Time
	LifeEnds time.Time // when it ends at the latest
	PID      uint32    // of the backend
	Works    []*Work
}

// List returns the open transactions, the oldest first.
func (p *Transactions) List() []Open {
	p.mu.Lock()
	all := make([]*Transaction, 0, len(p.open))
	for _, t := range p.open {
		all = append(all, t)
	}
	p.mu.Unlock() // nobody holds the locks of all and of one
	list := make([]Open, len(all))
	for i, t := range all {
		list[i] = t.show()
	}
	slices.SortFunc(list, func(a, b Open) int { return cmp.Or(a.Begun.Compare(b.Begun), cmp.Compare(a.Key, b.Key)) })
	return list
}

func (t *Transaction) show() Open {
	sum := sha256.Sum256([]byte(t.id))
	t.mu.Lock()
	defer t.mu.Unlock()
	o := Open{
		Key: hex.EncodeToString(sum[:])[:keyLength], Caller: t.caller, Script: t.script, State: t.state,
		Busy: t.cancel != nil, Begun: t.begun, Expires: t.expiresLocked(), PID: t.pid,
		LifeEnds: t.lifeEnds, Works: slices.Clone(t.works),
	}
	if o.Busy || t.idleEnds.IsZero() { // the idle clock stands still, or does not run yet
		o.Expires = t.lifeEnds
	}
	return o
}

// worksOn remembers what is done in a transaction, for those who list it.
func (t *Transaction) worksOn(c *execution.Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.script = ""
	if c.Program != nil && !c.Program.AdHoc {
		t.script = c.Program.Script.Name
	}
}
