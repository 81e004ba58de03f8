package pinned

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// Extension is a further kind of work on scripts. A request to
// <prefix>.<Name>[.<script>], the same for a caller, or
// <tx>.<Name>[.<script>] in a pinned transaction begins it, and verbs of its
// own act on it later.
type Extension struct {
	// Name is the token of the requests that begin its work.
	Name string
	// Accepts says why it cannot work on a script, or on a request's own SQL.
	// Nil means that it can.
	Accepts func(*script.Script) *service.Error
	// Open serves a request that begins its work, and answers it. ctx ends when
	// the grace of a stop does.
	Open func(ctx context.Context, t *Task)
	// Job does the same for a job, <prefix>.job.<Name>.<script>, and returns the
	// body of its result. Nil means that there are no such jobs, and that its
	// requests have no message ids either.
	Job func(ctx context.Context, t *Task) ([]byte, error)
	// CountsEnds says that its work goes on after the answer, and that it tells with
	// [Task.Ended] what came of it.
	CountsEnds bool
	// Metrics are the work's own. Nil means that there are none.
	Metrics prometheus.Collector
	// Verbs are what else a pinned transaction understands because of it.
	Verbs map[string]Verb
}

// Verb returns the name, for those who know of an extension no more than that.
func (e *Extension) Verb() string { return e.Name }
