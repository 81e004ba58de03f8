package txrunner

import (
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/service"
)

// ended counts what nobody is answered when it ends.
func (r *Runner) ended(script string, err error, took time.Duration) {
	var failure *service.Error
	if err != nil {
		failure = service.AsError(err)
	}
	r.answered(script, failure, took)
}

// answered counts an answer; script is empty for SQL of a request's own.
func (r *Runner) answered(script string, failure *service.Error, took time.Duration) {
	if failure == nil {
		r.answers.Add(script, "", "", took)
		return
	}
	r.answers.Add(script, string(failure.Code), failure.SQLState, took)
}

// countsEnds reports whether requests of a kind are counted when their work ends,
// and not when they are answered.
func (r *Runner) countsEnds(kind string) bool {
	return slices.ContainsFunc(r.extensions, func(e *pinned.Extension) bool { return e.Name == kind && e.CountsEnds })
}
