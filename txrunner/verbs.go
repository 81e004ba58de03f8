package txrunner

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// allVerbs is the table of what can be asked for. What pinned transactions
// understand besides is in [pinned.Transactions] and in the extensions.
func (r *Runner) allVerbs() []verb {
	all := []verb{
		{name: kindRun, names: true, bare: true, pinned: true, serve: r.serveRun, job: r.runJob},
		{name: "describe", names: true, bare: true, serve: r.serveDescribe},
		{name: "begin", bare: true, serve: r.serveBegin},
	}
	for _, e := range r.extensions {
		all = append(all, r.extensionVerb(e))
	}
	return all
}

// pinnedVerbs are those of pinned transactions that come from here.
func (r *Runner) pinnedVerbs() map[string]pinned.Verb {
	all := make(map[string]pinned.Verb)
	for _, v := range r.verbs {
		if v.pinned {
			all[v.name] = pinned.Verb{More: true, Serve: func(ctx context.Context, t *pinned.Transaction, request *service.Request) {
				v.serve(ctx, target{caller: t.Caller(), script: strings.Join(request.Tokens[2:], "."), tx: t}, request)
			}}
		}
	}
	for _, e := range r.extensions {
		maps.Copy(all, e.Verbs)
	}
	return all
}

// register adds the endpoints to the service: for each verb, and one for all
// callers.
func (r *Runner) register() error {
	for _, v := range r.verbs {
		if v.bare {
			if err := r.handle(v.name+"-bare", v.name, nil, v.serve); err != nil {
				return err
			}
		}
		if v.names {
			if err := r.handle(v.name, v.name+".>", nil, v.serve); err != nil {
				return err
			}
		}
	}
	if err := r.handle("as", "as.>", placeOfCaller, r.serveAs); err != nil {
		return err
	}
	return r.transactions.Register(r.service, api.MaxServed, r.noReply)
}

// placeOfCaller has one caller's requests share, whatever they are.
func placeOfCaller(r *service.Request) service.Place {
	return service.Place{Owner: "as." + r.Tokens[0]}
}

// noReply reports whether a request is served whose sender wants no answer.
func (r *Runner) noReply(*service.Request) bool { return r.config.NoReply }

// handle adds an endpoint. A request names its script by the tokens after the verb.
func (r *Runner) handle(name, rest string, place func(*service.Request) service.Place, serve func(context.Context, target, *service.Request)) error {
	return r.service.Handle(service.Endpoint{
		Name: name, Subject: r.config.Prefix + "." + rest,
		Concurrency: api.MaxServed, Place: place, NoReply: r.noReply,
		Handler: func(ctx context.Context, batch []*service.Request) {
			for _, request := range batch {
				serve(ctx, target{script: strings.Join(request.Tokens, ".")}, request)
			}
		},
	})
}

// verbs is the table for a Runner with this configuration that serves nothing.
func (c Config) verbs() []verb {
	return (&Runner{config: c, extensions: extensionsOf(c)}).allVerbs()
}

// Subjects returns what a Runner with this configuration subscribes, as
// patterns; of pinned transactions it is the one that holds those of every
// replica.
func (c Config) Subjects() []string {
	prefix := c.withDefaults().Prefix + "."
	var all []string
	for _, v := range c.verbs() {
		if v.bare {
			all = append(all, prefix+v.name)
		}
		if v.names {
			all = append(all, prefix+v.name+".>")
		}
	}
	return append(all, prefix+"as.>", pinned.Pattern(c.withDefaults().Prefix))
}

// serveAs serves <prefix>.as.<caller>.<verb>[.<script>].
func (r *Runner) serveAs(ctx context.Context, _ target, request *service.Request) {
	caller, err := subject.Untoken(request.Tokens[0])
	if err != nil || len(caller) > api.MaxCallerBytes || !service.Storable(caller) {
		request.Answer(service.Reply{}, service.Errorf(service.CodeInvalidRequest, "the caller is not one encoded token of at most %d bytes", api.MaxCallerBytes))
		return
	}
	rest := request.Tokens[1:]
	i := slices.IndexFunc(r.verbs, func(v verb) bool {
		return len(rest) > 0 && v.name == rest[0] && (len(rest) > 1 && v.names || len(rest) == 1 && v.bare)
	})
	if i < 0 {
		request.Answer(service.Reply{}, service.Errorf(service.CodeNotFound, "no such request: %q", strings.Join(rest, ".")))
		return
	}
	r.verbs[i].serve(ctx, target{caller: caller, script: strings.Join(rest[1:], ".")}, request)
}

// extensionVerb is an extension's requests to begin its work.
func (r *Runner) extensionVerb(e *pinned.Extension) verb {
	v := verb{name: e.Name, names: true, bare: true, pinned: true}
	v.serve = func(ctx context.Context, to target, request *service.Request) {
		task, err := r.newTask(e, to, request)
		if err != nil {
			request.Answer(service.Reply{}, err)
			return
		}
		e.Open(ctx, task)
	}
	if e.Job == nil {
		return v
	}
	v.job = func(ctx context.Context, to target, id *execution.MessageID, request *service.Request) ([]byte, error) {
		task, err := r.newTask(e, to, request)
		if err != nil {
			return nil, err
		}
		return e.Job(ctx, task.Identify(id))
	}
	return v
}

// newTask reads a request to begin an extension's work.
func (r *Runner) newTask(e *pinned.Extension, to target, request *service.Request) (*pinned.Task, error) {
	c, left, err := r.readCall(to, e.Name, request, e.Accepts)
	if err != nil {
		return nil, err
	}
	if c.ID != nil && e.Job == nil {
		return nil, service.Errorf(service.CodeInvalidRequest, "a %s has no message id", e.Name)
	}
	return r.transactions.NewTask(to.tx, r.poolFor(c.Program, r.pinned), r.config.IdleTimeout, c, request, left), nil
}
