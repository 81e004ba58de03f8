package pinned

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/service"
)

// Pattern is the subject of all requests on a replica's transactions below a
// prefix.
func Pattern(prefix string) string { return prefix + ".tx.>" }

// Register adds the endpoint of all pinned transactions. Requests on one of them
// form a queue, which those that take no turn pass by. NoReply says which are
// served though their sender wants no answer.
func (p *Transactions) Register(s *service.Service, concurrency int, noReply func(*service.Request) bool) error {
	return s.Handle(service.Endpoint{
		Name: "tx", Subject: p.subject + ".>",
		Concurrency: concurrency, Place: p.place, NoReply: noReply,
		Private: &service.Private{
			MaxWaiting: api.MaxWaitingInTransaction, Direct: p.direct, Done: p.stopped,
			Header: func(r *service.Request) nats.Header { return p.state(r.Tokens[0]).Header() },
		},
		Handler: func(ctx context.Context, batch []*service.Request) {
			for _, request := range batch {
				p.serve(ctx, request)
			}
		},
	})
}

// verb returns what a request asks for; an unknown verb is the zero value.
func (p *Transactions) verb(request *service.Request) Verb {
	if len(request.Tokens) < 2 {
		return Verb{}
	}
	verb := p.verbs[request.Tokens[1]]
	if len(request.Tokens) > 2 && !verb.More && !verb.Receives {
		return Verb{}
	}
	return verb
}

// place puts a request into its transaction's queue, unless it takes no turn.
func (p *Transactions) place(request *service.Request) service.Place {
	place := service.Place{Owner: p.owner(request.Tokens[0])}
	if verb := p.verb(request); !verb.Now && !verb.Receives {
		place.Key = request.Tokens[0]
	}
	return place
}

// owner is who has begun a transaction. What is for none that is open has one
// owner.
func (p *Transactions) owner(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.open[id]; t != nil {
		return t.owner
	}
	return p.subject
}

func (p *Transactions) state(id string) State {
	t, err := p.get(id)
	if err != nil {
		return StateEnded
	}
	return t.State()
}

// direct takes what is for a receiver. That nobody receives it, as when a stream
// is over, is told only who waits for an answer.
func (p *Transactions) direct(request *service.Request) bool {
	if !p.verb(request).Receives || len(request.Tokens) < 3 {
		return false
	}
	if r := p.receivers(request.Tokens[0]); r != nil && r.deliver(request) {
		return true
	}
	return request.ReplySubject() == ""
}

// serve answers a request on a pinned transaction.
func (p *Transactions) serve(ctx context.Context, request *service.Request) {
	verb := p.verb(request)
	t, err := p.get(request.Tokens[0])
	switch {
	case err != nil:
		request.Answer(late(verb, request, p.reason(request.Tokens[0]), err))
	case t.State() == StateHeld && !verb.Held:
		request.Answer(service.Reply{}, gone("it was committed, only its cursors are left"))
	case verb.Serve != nil:
		verb.Serve(ctx, t, request)
	case verb.Missing != "" && len(request.Tokens) > 2:
		request.Answer(service.Reply{}, service.Errorf(service.CodeGone, "%s", verb.Missing))
	default:
		request.Answer(service.Reply{}, service.Errorf(service.CodeNotFound, "a transaction has no verb %q", strings.Join(request.Tokens[1:], ".")))
	}
}

// late answers a request on a transaction that has ended.
func late(verb Verb, request *service.Request, reason string, gone error) (service.Reply, error) {
	if verb.Late != nil && len(request.Tokens) == 2 {
		if reply, ok := verb.Late(request, reason); ok {
			return reply, nil
		}
	}
	return service.Reply{}, gone
}
