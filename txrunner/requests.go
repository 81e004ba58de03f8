package txrunner

import (
	"context"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/subject"
)

const (
	headerReplayed    = "Pgbridge-Replayed"
	headerTransaction = "Pgbridge-Transaction"

	maxCallerBytes = 256
	// concurrency is how many requests of one endpoint are being served at a
	// time. Nearly all of them wait for a connection, which is why there are
	// many more of them than connections.
	concurrency = 1024
	maxWaiting  = 8192
)

// verb is a kind of request outside pinned transactions.
type verb struct {
	name   string
	names  bool // it may name a script
	bare   bool // it may name none
	handle func(context.Context, address, *service.Request)
}

// allVerbs are all there are; each can be asked for by a caller as well.
func (r *Runner) allVerbs() []verb {
	all := []verb{
		{name: "run", names: true, bare: true, handle: r.serveRun},
		{name: "describe", names: true, bare: true, handle: r.serveDescribe},
		{name: "begin", bare: true, handle: r.serveBegin},
	}
	for i := range r.config.Extensions {
		all = append(all, r.openingVerb(&r.config.Extensions[i]))
	}
	return all
}

// register adds the endpoints to the service: for each verb, and one for all
// callers.
func (r *Runner) register() error {
	for _, v := range r.verbs {
		handler := func(ctx context.Context, request *service.Request) {
			v.handle(ctx, address{script: strings.Join(request.Tokens, ".")}, request)
		}
		if v.bare {
			if err := r.handle(v.name+"-bare", v.name, handler); err != nil {
				return err
			}
		}
		if v.names {
			if err := r.handle(v.name, v.name+".>", handler); err != nil {
				return err
			}
		}
	}
	if err := r.handle("as", "as.>", r.serveAs); err != nil {
		return err
	}
	return r.pins.register(r.service)
}

func (r *Runner) handle(name, rest string, handler func(context.Context, *service.Request)) error {
	return r.service.Handle(service.Endpoint{
		Name: name, Subject: r.config.Prefix + "." + rest,
		Concurrency: concurrency, MaxWaiting: maxWaiting,
		Handler: func(ctx context.Context, batch []*service.Request) {
			for _, request := range batch {
				handler(ctx, request)
			}
		},
	})
}

// Subjects returns what a Runner with this configuration subscribes, as
// patterns; of pinned transactions it is the one that holds those of every
// replica.
func (c Config) Subjects() []string {
	prefix := c.withDefaults().Prefix + "."
	var all []string
	for _, v := range (&Runner{config: c}).allVerbs() {
		if v.bare {
			all = append(all, prefix+v.name)
		}
		if v.names {
			all = append(all, prefix+v.name+".>")
		}
	}
	return append(all, prefix+"as.>", prefix+"tx.>")
}

// serveAs serves <prefix>.as.<caller>.<verb>[.<script>].
func (r *Runner) serveAs(ctx context.Context, request *service.Request) {
	caller, err := subject.Untoken(request.Tokens[0])
	if err != nil || len(caller) > maxCallerBytes || !service.Storable(caller) {
		request.Answer(service.Reply{}, service.Errorf(service.CodeInvalidRequest, "the caller is not one encoded token of at most %d bytes", maxCallerBytes))
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
	r.verbs[i].handle(ctx, address{caller: caller, script: strings.Join(rest[1:], ".")}, request)
}

// serveRun answers a request to run a script, or its own SQL.
func (r *Runner) serveRun(ctx context.Context, to address, request *service.Request) {
	buffer := r.buffers.Get().(*[]byte)
	defer r.buffers.Put(buffer)
	done, err := r.serveCall(ctx, to, request, *buffer)
	if err != nil {
		request.Answer(service.Reply{}, err)
		return
	}
	reply := service.Reply{Data: done.body}
	if done.replayed {
		reply.Header = nats.Header{headerReplayed: {"true"}}
	} else if cap(done.body) <= maxBufferBytes {
		*buffer = done.body[:0] // NATS has copied it
	}
	request.Answer(reply, nil)
}

func (r *Runner) serveCall(ctx context.Context, to address, request *service.Request, buffer []byte) (outcome, error) {
	c, err := r.newCall(to, request)
	if err != nil {
		return outcome{}, err
	}
	c.id, err = newMessageID(r.config.Prefix, to.caller, kindRun, to.script, request.Header.Get(nats.MsgIdHdr), request.Data)
	if err != nil {
		return outcome{}, err
	}
	done, err := r.run(ctx, r.connectionsFor(c.program), c, buffer)
	if done.replayed {
		r.metrics.replays.Inc()
		if len(done.body) > r.replyLimit() { // stored when messages could be larger
			return outcome{}, errResultGrown
		}
	}
	return done, err
}
