package txrunner

import (
	"context"
	"strings"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// Extension is a further kind of work on scripts. A request to
// <prefix>.<Verb>[.<script>], the same for a caller, or
// <tx>.<Verb>[.<script>] in a pinned transaction begins it, and verbs of its
// own act on it later. Packages of this program make one; see cursors and
// copier.
type Extension struct {
	// Verb is the token of the requests that begin its work.
	Verb string
	// Accepts says why it cannot work on a script, or on a request's own SQL.
	// Nil means that it can.
	Accepts func(*script.Script) *service.Error
	// Open serves a request that begins its work, and answers it. ctx ends when
	// the grace of a stop does.
	Open func(ctx context.Context, t *Task)
	// Job does the same for a job, <prefix>.job.<Verb>.<script>, and returns the
	// body of its result. Nil means that there are no such jobs, and that its
	// requests have no message ids either.
	Job func(ctx context.Context, t *Task) ([]byte, error)
	// Verbs are what else a pinned transaction understands because of it.
	Verbs map[string]Verb
}

// Verb is a request on a pinned transaction.
type Verb struct {
	// Serve answers a request in its turn with the transaction's others. Nil
	// means that there are only direct ones.
	Serve func(ctx context.Context, t *Transaction, request *service.Request)
	// Direct takes a request as soon as it comes, in the order in which they
	// come, and answers it later. It must not block. It reports whether the
	// request was for it; one that was not is answered gone or not_found. t is
	// nil where the transaction has ended; the request's first token is its id.
	Direct func(t *Transaction, request *service.Request) bool
	// Held says that it is served in the state held too.
	Held bool
	// Late returns the answer to a request that comes after the transaction
	// has ended for a reason; false means gone. The request's first token is
	// the transaction's id.
	Late func(request *service.Request, reason string) (service.Reply, bool)
}

// extension returns the one with this verb, or nil.
func (r *Runner) extension(verb string) *Extension {
	for i := range r.config.Extensions {
		if r.config.Extensions[i].Verb == verb {
			return &r.config.Extensions[i]
		}
	}
	return nil
}

// verb is its requests outside pinned transactions.
func (r *Runner) openingVerb(e *Extension) verb {
	return verb{name: e.Verb, names: true, bare: true, handle: func(ctx context.Context, to address, request *service.Request) {
		r.serveTask(ctx, e, nil, to, request)
	}}
}

// serveTask has an extension serve a request that begins its work.
func (r *Runner) serveTask(ctx context.Context, e *Extension, t *Transaction, to address, request *service.Request) {
	task, err := r.newTask(e, t, to, request)
	if err != nil {
		request.Answer(service.Reply{}, err)
		return
	}
	e.Open(ctx, task)
}

// pinnedVerbs gathers what pinned transactions understand besides their own.
func (r *Runner) pinnedVerbs() map[string]Verb {
	all := make(map[string]Verb)
	for i := range r.config.Extensions {
		e := &r.config.Extensions[i]
		all[e.Verb] = Verb{Serve: func(ctx context.Context, t *Transaction, request *service.Request) {
			r.serveTask(ctx, e, t, address{caller: t.caller, script: strings.Join(request.Tokens[2:], ".")}, request)
		}}
		for name, verb := range e.Verbs {
			all[name] = verb
		}
	}
	return all
}
