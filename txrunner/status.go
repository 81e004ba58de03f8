package txrunner

import (
	"time"

	"github.com/pgbridge/pgbridge/internal/pinned"
)

// Status is what a [Runner] does at a moment, for people.
type Status struct {
	Scripts      int
	JobsRunning  int
	Connections  []Connections
	Transactions []OpenTransaction // the oldest first
}

// Connections are the PostgreSQL connections for one purpose.
type Connections struct {
	Purpose    string // run, pinned, sql or jobs
	Used, Idle int
	Limit      int // how many there can be
	Waiting    int // requests that want one
}

// OpenTransaction is a pinned transaction, and what goes on in it. Nothing in it lets anybody use it.
type OpenTransaction struct {
	Key     string // tells it from others
	Caller  string // who has begun it; empty: nobody vouches for one
	Script  string // what it works on, or did last; empty: its client's own SQL, or nothing yet
	State   string // active, failed or held
	Busy    bool   // a request is being served on it
	Begun   time.Time
	Expires time.Time // when it ends if nothing happens
	PID     uint32    // of its backend

	LifeEnds time.Time // when it ends at the latest
	Work     []WorkState
}

// WorkState is a cursor or a copy in a transaction.
type WorkState struct {
	Kind        string // cursor, copy in, copy out
	Name        string // a cursor's
	Script      string
	Begun       time.Time
	Rows, Bytes int64
	TotalRows   int64 // -1: unknown
	TotalBytes  int64 // the same
}

func newOpenTransaction(o pinned.Open) OpenTransaction {
	t := OpenTransaction{
		Key: o.Key, Caller: o.Caller, Script: o.Script, State: string(o.State), Busy: o.Busy,
		Begun: o.Begun.UTC(), Expires: o.Expires.UTC(), PID: o.PID, LifeEnds: o.LifeEnds.UTC(), Work: []WorkState{},
	}
	for _, w := range o.Works {
		t.Work = append(t.Work, WorkState{
			Kind: w.Kind, Name: w.Name, Script: w.Script, Begun: w.Begun.UTC(), Rows: w.Rows.Load(), Bytes: w.Bytes.Load(),
			TotalRows: known(w.TotalRows), TotalBytes: known(w.TotalBytes),
		})
	}
	return t
}

func known(n *int64) int64 {
	if n == nil {
		return -1
	}
	return *n
}

// Status returns a snapshot. It does not block.
func (r *Runner) Status() Status {
	s := Status{Scripts: len(r.scripts.names()), JobsRunning: r.jobs.Running()}
	for _, p := range r.pools() {
		stat := p.Stat()
		s.Connections = append(s.Connections, Connections{p.Name(), stat.Used, stat.Idle, stat.Most, stat.Waiting})
	}
	for _, t := range r.transactions.List() {
		s.Transactions = append(s.Transactions, newOpenTransaction(t))
	}
	return s
}
