package txrunner

import (
	"cmp"
	"time"

	"github.com/pgbridge/pgbridge/internal/subject"
)

// Jobs describes how durable jobs are taken. The zero value of a field means
// its documented default.
type Jobs struct {
	// Stream holds the jobs until they are done.
	Stream JobStream
	// Results is the stream that holds their results.
	Results ResultStream
	// Concurrency is how many jobs this process runs at a time, each on a
	// connection that is for jobs alone. Default 8.
	Concurrency int
	// Attempts is how many runs a job has before a failure that could go away
	// by itself counts as final. Default 5.
	Attempts int
}

// JobStream is the JetStream work queue that holds the jobs.
type JobStream struct {
	// Name of the stream. Default: the prefix in upper case, dots as
	// underscores, and _JOBS.
	Name string
	// Create lets Run create the stream, or add subjects to it.
	Create bool
	// Replicas of a stream that is created. Default 1.
	Replicas int
}

// ResultStream is the JetStream stream that holds the results of jobs.
type ResultStream struct {
	// Name of the stream. Default: the prefix in upper case, dots as
	// underscores, and _RESULTS.
	Name string
	// MaxAge is how long a stream that is created keeps a result. Default 24 h.
	MaxAge time.Duration
	// Create lets Run create the stream, or add subjects to it.
	Create bool
	// Replicas of a stream that is created. Default 1.
	Replicas int
}

const (
	defaultJobConcurrency = 8
	defaultJobAttempts    = 5
	defaultResultAge      = 24 * time.Hour

	maxJobAttempts = 1000
	minResultAge   = time.Second
)

func (j Jobs) withDefaults(prefix string) Jobs {
	j.Stream.Name = cmp.Or(j.Stream.Name, subject.StreamName(prefix, "JOBS"))
	j.Stream.Replicas = cmp.Or(j.Stream.Replicas, 1)
	j.Results.Name = cmp.Or(j.Results.Name, subject.StreamName(prefix, "RESULTS"))
	j.Results.Replicas = cmp.Or(j.Results.Replicas, 1)
	j.Results.MaxAge = cmp.Or(j.Results.MaxAge, defaultResultAge)
	j.Concurrency = cmp.Or(j.Concurrency, defaultJobConcurrency)
	j.Attempts = cmp.Or(j.Attempts, defaultJobAttempts)
	return j
}

func (j Jobs) validate(f *faults) {
	f.connections("jobs.concurrency", j.Concurrency)
	if j.Attempts < 1 || j.Attempts > maxJobAttempts {
		f.add("jobs.attempts", "%d: want 1 to %d", j.Attempts, maxJobAttempts)
	}
	f.stream("streams.jobs", j.Stream.Name, j.Stream.Replicas)
	f.stream("streams.results", j.Results.Name, j.Results.Replicas)
	if j.Results.MaxAge < minResultAge {
		f.add("streams.results.max_age", "%s: want at least %s", j.Results.MaxAge, minResultAge)
	}
	if j.Stream.Name == j.Results.Name {
		f.add("streams.results.name", "%q is the stream of the jobs", j.Results.Name)
	}
}
