package jobs

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/tracing"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	lookPause      = 10 * time.Second // between two looks at the streams
	lookAgainPause = time.Second      // when something was wrong with them
	gatePause      = 100 * time.Millisecond
	forbiddenFor   = time.Minute

	drainTimeout = 2 * time.Second
)

// Config describes how jobs are taken. Every field is required.
type Config struct {
	Prefix string
	Kinds  []string // the token of each kind of jobs

	Stream         string // a work queue with the jobs
	CreateStream   bool
	StreamReplicas int // of a stream that is created

	Results         string // the stream with their results
	CreateResults   bool
	ResultsReplicas int
	ResultsMaxAge   time.Duration

	Concurrency int // jobs at a time
	Attempts    int // runs that a job has before a failure is final
	StopGrace   time.Duration
	Requests    *nats.Conn
	JetStream   jetstream.JetStream // on Requests; nil: as the connection has it
	Logger      *zap.Logger

	// Run runs a job of a kind under its id and returns the body of its result.
	Run func(ctx context.Context, kind, script string, id *execution.MessageID, request *service.Request) ([]byte, error)
	// Pool is where ids and failures are looked up; it is asked for when Run runs.
	Pool func() *session.Pool
	// Ready reports whether PostgreSQL is there.
	Ready func() bool
	// Tracer begins a span for each delivery of a job. Nil means none.
	Tracer *tracing.Tracer
	// Budget is what jobs hold in memory, as requests do. Nil means no limit.
	Budget *budget.Budget
}

// Jobs takes jobs. A nil *Jobs takes none at all.
type Jobs struct {
	config  Config
	js      jetstream.JetStream
	log     *zap.Logger
	metrics *metrics

	backlog   atomic.Pointer[backlog]   // what the last look at the stream found; nil: nothing yet
	sources   atomic.Pointer[sources]   // what the last look found; nil: never good yet
	problem   atomic.Pointer[string]    // why no jobs are taken; nil: they are
	faulty    wait.Signal               // a worker has found a problem
	forbidden atomic.Pointer[forbidden] // that a worker was refused; nil: none was
	seen      seen
	running   atomic.Int64 // jobs under way

	failedEnsured atomic.Bool // the stream of failed jobs was asked for
}

// Running is how many jobs are under way.
func (j *Jobs) Running() int {
	if j == nil {
		return 0
	}
	return int(j.running.Load())
}

// forbidden is what a connection may not do, which a look at the streams does not find.
type forbidden struct {
	err        error
	reconnects uint64    // that the connection had before
	until      time.Time // it is tried again: rights can be given to a connection that lasts
}

// sources are what jobs come from and where their results go.
type sources struct {
	consumer jetstream.Consumer
	results  jetstream.Stream
	ackWait  time.Duration
}

// job is one delivery of a job.
type job struct {
	msg     *nats.Msg
	meta    *nats.MsgMetadata
	verb    string // run, or an extension's
	script  string
	key     *execution.MessageID
	refused error // why its id is not one; nil: it is
	failed  int   // attempts before this one
	counted bool  // its start is
	early   bool  // its id is the name of another job, which is not over
}

// verdict is what becomes of a delivery.
type verdict struct {
	outcome string
	delay   time.Duration // until it is delivered again, unless it is over
	err     error         // why it is not done
}

// report makes an error the problem, and nil none.
func (j *Jobs) report(err error) {
	if err == nil {
		if j.problem.Swap(nil) != nil {
			j.log.Info("taking jobs", zap.String("stream", j.config.Stream), zap.String("subject", j.subject()+".>"))
		}
		return
	}
	text := err.Error()
	if old := j.problem.Swap(&text); old == nil || *old != text {
		j.log.Warn("taking no jobs", zap.String("stream", j.config.Stream), zap.Error(err), zap.Duration("backoff", lookAgainPause))
	}
}

// fault reports what a worker has found, and has it looked at.
func (j *Jobs) fault(err error) {
	j.report(err)
	j.faulty.Raise()
}

func (j *Jobs) subject() string { return j.config.Prefix + ".job" }
