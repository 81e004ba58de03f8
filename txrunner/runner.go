package txrunner

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgbridge/pgbridge/internal/answers"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/txrunner/internal/captures"
	"github.com/pgbridge/pgbridge/txrunner/internal/jobs"
)

const (
	purgePause = 10 * time.Minute
	lookAgain  = 5 * time.Second // at scripts, after PostgreSQL was away
)

// Runner serves scripts and transactions of one database. Its methods are safe
// for concurrent use. It is a Prometheus collector.
type Runner struct {
	config       Config
	settings     *postgres.Settings
	sqlSettings  *postgres.Settings // nil: the same
	scripts      *scripts
	service      *service.Service
	verbs        []verb
	metrics      *metrics
	gauges       gauges
	answers      answers.Answers
	extensions   []*pinned.Extension
	transactions *pinned.Transactions
	memory       *budget.Budget // what requests hold
	captures     captures.Watch
	jobs         *jobs.Jobs // nil: none are taken
	buffers      sync.Pool  // *[]byte

	home    *session.Home    // of requests
	sqlHome *session.Home    // of those with their own SQL; nil: the same
	apart   *problem.Problem // another replica serves from another server
	rival   rival            // that one, as it was seen last

	// Made by Run. Until then there are none.
	opened  atomic.Bool
	stopped atomic.Bool // it is over, or about to be
	runs    *session.Pool
	pinned  *session.Pool
	sql     *session.Pool // nil: runs are
	work    *session.Pool // for jobs, so that requests need not wait for them; nil: there are none
}

// pools lists the pools that are open.
func (r *Runner) pools() []*session.Pool {
	if !r.opened.Load() {
		return nil
	}
	all := []*session.Pool{r.runs, r.pinned, r.sql, r.work}
	return slices.DeleteFunc(all, func(p *session.Pool) bool { return p == nil })
}

// poolFor returns the connections that a program runs on, where others is what
// it is for scripts.
func (r *Runner) poolFor(p *execution.Program, others *session.Pool) *session.Pool {
	if p.AdHoc && r.sql != nil {
		return r.sql
	}
	return others
}

// replyLimit is how long a reply's body may be.
func (r *Runner) replyLimit() int { return int(r.config.Requests.MaxPayload()) - execution.Reserve }

// rival is a replica that serves the prefix from another server, or one whose subjects
// take in this one's. The zero value is none.
type rival struct{ id, server, prefix string }

// verb is a kind of request: <prefix>.<name>[.<script>], the same for a caller,
// and, where it can be one, <tx>.<name>[.<script>] in a pinned transaction and the
// job <prefix>.job.<name>.<script>.
type verb struct {
	name   string
	names  bool // it may name a script
	bare   bool // it may name none
	pinned bool // it can come on a pinned transaction
	serve  func(ctx context.Context, to target, request *service.Request)
	// job does the same for a job and returns the body of its result; nil: there
	// are no such jobs.
	job func(ctx context.Context, to target, id *execution.MessageID, request *service.Request) ([]byte, error)
}

// target is what the subject of a request says.
type target struct {
	caller string              // empty: nobody vouches for one
	script string              // empty: the request brings its own SQL
	tx     *pinned.Transaction // nil: none that a client has begun
}

// kindRun is the verb of runs, and the kind under which their message ids are
// stored.
const kindRun = "run"

const (
	// ownWork is the owner of what this process asks by itself.
	ownWork = "pgbridge"
)

func (r *Runner) parseSettings(f *faults) {
	parse := func(key, connString, passwordFile string) *postgres.Settings {
		settings, err := postgres.Parse(connString, postgres.Options{PasswordFile: passwordFile, ApplicationName: r.config.ApplicationName})
		if err != nil {
			f.add(key, "%w", err)
		}
		return settings
	}
	r.settings = parse("postgres.url", r.config.ConnString, r.config.PasswordFile)
	if own := r.config.SQL; own != nil && own.ConnString != "" {
		r.sqlSettings = parse("sql.url", own.ConnString, own.PasswordFile)
	}
}
