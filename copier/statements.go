package copier

import (
	"context"
	"strings"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/session"
)

// dataCopy does the COPY itself. It is given SQL without parameters.
type dataCopy func(ctx context.Context, s *session.Session, sql string) (outcome, error)

// statements runs the COPY and what is around it, and returns what PostgreSQL
// says of the COPY.
func (k *copying) statements(ctx context.Context, w *execution.Execution, copy dataCopy) (outcome, error) {
	drop := !k.in() // the answer to a copy out has no place for results
	if err := k.task.Transaction().RunsScript(ctx, w); err != nil {
		return outcome{}, err
	}
	if err := w.Statements(ctx, 0, k.at, drop); err != nil {
		return outcome{}, err
	}
	defer k.sql.Close()
	query, err := k.query(ctx, w)
	if err != nil {
		return outcome{}, err
	}
	w.Executes()
	k.progress.caller = k.task.Transaction().Caller()
	defer k.copier.metrics.runs(k.in())()
	defer k.task.Transaction().Show(&k.progress.Work)()
	stop := k.copier.watch(ctx, &k.progress)
	done, err := copy(ctx, w.Session(), query.SQL)
	stop()
	if err != nil {
		return outcome{}, w.Refused(query, err)
	}
	if !strings.EqualFold(k.copy().Options["on_error"].Literal, "'ignore'") {
		done.skipped = 0 // it speaks of something else
	}
	if err := w.Statements(ctx, k.at+1, len(k.script.Statements), drop); err != nil {
		return outcome{}, err
	}
	return done, w.Sync(ctx)
}

// commit ends the transaction, unless it is a client's. reply goes with the
// message id, if there is one.
func (k *copying) commit(ctx context.Context, w *execution.Execution, reply []byte) error {
	if !k.task.Own() {
		return nil
	}
	return w.Commit(ctx, reply)
}
