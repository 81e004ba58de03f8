// Package state reads what a replica does, for whoever shows it: one reading for the
// answer over NATS and for every other view.
package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api/status"
	"github.com/pgbridge/pgbridge/txrunner"
)

// Source is what the state is read from. It is for concurrent use if its functions
// are.
type Source struct {
	Version string
	Started time.Time
	Bridge  func() bridge.Status
	Runner  func() txrunner.Status
	// Problems are why each part is not ready; what two of them see is said once.
	Problems []func() []string
}

// Of is the source for a bridge and, unless it is nil, a runner. Both are asked for
// only when the state is read: they need not exist before.
func Of(version string, b func() *bridge.Bridge, r func() *txrunner.Runner) Source {
	return Source{
		Version: version, Started: time.Now(),
		Bridge: func() bridge.Status { return b().Status() },
		Runner: func() (s txrunner.Status) {
			if one := r(); one != nil {
				s = one.Status()
			}
			return s
		},
		Problems: []func() []string{func() []string { return b().Problems() }, func() (p []string) {
			if one := r(); one != nil {
				p = one.Problems()
			}
			return p
		}},
	}
}

// AllProblems joins the problems of all parts.
func (s Source) AllProblems() []string {
	problems := []string{}
	for _, of := range s.Problems {
		for _, p := range of() {
			if !slices.Contains(problems, p) {
				problems = append(problems, p)
			}
		}
	}
	return problems
}

// Read returns the state now.
func (s Source) Read() status.Replica {
	b := s.Bridge()
	r := status.Replica{
		Replica: b.Replica, Version: s.Version, StartedAt: s.Started.UTC(), State: b.State, Problems: s.AllProblems(),
		Channels: b.Channels, QueueBytes: map[string]int64{},
		Connections: []status.Connections{}, Transactions: []status.Transaction{},
	}
	for delivery, n := range b.QueueBytes {
		r.QueueBytes[string(delivery)] = n
	}
	t := s.Runner()
	r.Scripts, r.JobsRunning, r.Open = t.Scripts, t.JobsRunning, len(t.Transactions)
	for _, c := range t.Connections {
		r.Connections = append(r.Connections, status.Connections{Pool: c.Purpose, Used: c.Used, Idle: c.Idle})
	}
	for _, o := range t.Transactions {
		r.Transactions = append(r.Transactions, status.Transaction{
			Key: o.Key, Caller: o.Caller, Script: o.Script, State: o.State, Busy: o.Busy,
			BegunAt: o.Begun.UTC(), ExpiresAt: o.Expires.UTC(), PID: o.PID,
		})
	}
	return r
}

// Report is the state as JSON of at most limit bytes: the youngest transactions are
// left out where not all fit, and then the last problems.
func (s Source) Report(limit int) ([]byte, error) {
	r := s.Read()
	problems := r.Problems
	for {
		body, err := json.Marshal(r)
		switch {
		case err != nil:
			return nil, fmt.Errorf("encode the status: %w", err)
		case len(body) <= limit:
			return body, nil
		case len(r.Transactions) > 0:
			r.Transactions = r.Transactions[:len(r.Transactions)/2]
		case len(problems) > 0:
			problems = problems[:len(problems)-1]
			r.Problems = append(slices.Clone(problems), "more than fit into the answer")
		default:
			return nil, fmt.Errorf("the status does not fit %d bytes", limit)
		}
	}
}
