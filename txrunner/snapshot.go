package txrunner

import (
	"time"

	"github.com/pgbridge/pgbridge/internal/answers"
)

// Snapshot is the state of a runner, for people and programs that look at it. It
// holds no parameter, row, message of PostgreSQL's or key to a transaction.
type Snapshot struct {
	Replica      string // as in the subjects of its transactions
	Scripts      int
	ScriptFaults []string
	Pools        []Connections // none before Run
	MemoryUsed   int64         // bytes that requests hold
	MemoryLimit  int64
	Answered     Answered          // requests on scripts, and with SQL of their own
	Transactions []OpenTransaction // the oldest first
	Jobs         *JobsState        // nil: none are taken
}

// Answered is what became of requests.
type Answered struct {
	Requests uint64
	Failed   uint64            // of these
	Errors   map[string]uint64 // by code
	Took     time.Duration     // all of them together
	Longest  time.Duration
	Latest   time.Time // when the last was answered; zero: none was
	// Counts are how many took at most as long as the same place of Bounds says.
	Bounds []time.Duration
	Counts []uint64
	Last   []LastError // the newest, the oldest of them first
}

// LastError is an error that a client was told.
type LastError struct {
	At             time.Time
	Code, SQLState string
}

// JobsState is what this process does with jobs.
type JobsState struct {
	Problem  string // why none are taken; empty: they are
	Limit    int    // at a time
	Running  []JobState
	Ended    []JobState        // deliveries, the newest, the oldest of them first
	Outcomes map[string]uint64 // of all deliveries

	// What follows is of all replicas, and there only where [Runner.LookAtJobs] was
	// asked.
	Waiting  uint64    // that no replica has
	UnderWay int       // that one has, or that wait for another attempt
	Again    int       // of these, that were delivered before
	Oldest   time.Time // when the oldest was published; zero: there is none
}

// JobState is a delivery of a job.
type JobState struct {
	Kind, Script string
	Begun        time.Time // zero: it has ended
	Ended        time.Time // zero: it is under way
	Took         time.Duration
	Outcome      string // done, failed, retried or waiting; empty: it is under way
	Code         string // of its error; empty: none
	Attempt      int    // of one under way: its delivery
}

// Snapshot returns the state now. It asks nobody.
func (r *Runner) Snapshot() Snapshot {
	now := r.Status()
	s := Snapshot{
		Replica: r.transactions.Replica(), Scripts: now.Scripts,
		MemoryUsed: r.memory.Used(), MemoryLimit: r.memory.Limit(),
		Answered: newAnswered(r.answers.All()), Pools: now.Connections, Transactions: now.Transactions, Jobs: r.jobsState(),
	}
	for _, fault := range r.scripts.known() {
		s.ScriptFaults = append(s.ScriptFaults, fault.Error())
	}
	return s
}

func newAnswered(s answers.Script) Answered {
	a := Answered{
		Requests: s.Requests, Failed: s.Failed(), Errors: s.Errors, Took: s.Took, Longest: s.Longest, Latest: s.Latest.UTC(),
		Bounds: answers.Bounds(), Counts: s.Counts[:],
	}
	for _, e := range s.Last {
		a.Last = append(a.Last, LastError(e))
	}
	return a
}

func (r *Runner) jobsState() *JobsState {
	if r.jobs == nil {
		return nil
	}
	v := r.jobs.View()
	s := &JobsState{Limit: r.config.Jobs.Concurrency, Outcomes: v.Outcomes}
	for _, problem := range r.jobs.Problems() {
		s.Problem = problem
	}
	for _, one := range v.Running {
		s.Running = append(s.Running, JobState{Kind: one.Kind, Script: one.Script, Begun: one.Begun.UTC(), Attempt: int(one.Delivery)})
	}
	for _, one := range v.Ended {
		s.Ended = append(s.Ended, JobState{
			Kind: one.Kind, Script: one.Script, Ended: one.At, Took: one.Took, Outcome: one.Outcome, Code: one.Code, Attempt: one.Attempt,
		})
	}
	return s
}
