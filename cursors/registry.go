package cursors

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

const (
	verb        = "cursor"
	defaultRows = 1000
	emptyObject = "{}"

	// Why a transaction that a cursor has opened is over.
	readToEnd  = "its last cursor was read to its end"
	lastClosed = "its last cursor was closed"

	// maxParting is how many last pages of ended transactions are kept.
	maxParting = 32
)

// New returns what makes a [txrunner.Runner] serve cursors; it belongs into
// [txrunner.Config.Extensions] of one Runner.
func New() txrunner.Extension {
	r := &registry{open: make(map[string]*set), parting: make(map[string]parting)}
	return txrunner.Extension{
		Verb: verb, Accepts: accepts, Open: r.serveOpen,
		Verbs: map[string]txrunner.Verb{
			"fetch":  {Serve: r.serve((*set).fetch), Held: true, Late: r.lateFetch},
			"move":   {Serve: r.serve((*set).move), Held: true},
			"close":  {Serve: r.serve((*set).close), Held: true, Late: lateClose},
			"stream": {Serve: r.serveStream, Held: true},
		},
	}
}

// accepts refuses scripts of which it is clear that they open no cursor: only a
// query does, or a CALL that returns refcursors.
func accepts(s *script.Script) *service.Error {
	if s.Cursorable() || s.Kind == script.Run && calls(s.Statements[len(s.Statements)-1].Text) {
		return nil
	}
	return errNoQuery()
}

func calls(sql string) bool { return len(sql) > 4 && strings.EqualFold(sql[:4], "call") }

func errNoQuery() *service.Error {
	return service.Errorf(service.CodeInvalidRequest,
		"a cursor needs a last statement that is a query (SELECT, VALUES, TABLE, WITH) or returns refcursors")
}

// registry knows the cursors of all transactions. It is safe for concurrent
// use.
type registry struct {
	sizes knownSizes

	mu      sync.Mutex // guards the rest
	open    map[string]*set
	parting map[string]parting // last pages of transactions that ended with them
	order   []string           // their ids
}

// of returns the cursors of a transaction; own says that it was begun for one.
func (r *registry) of(t *txrunner.Transaction, own bool) *set {
	changes := t.Changes()
	r.mu.Lock()
	s := r.open[t.ID()]
	if s == nil {
		s = &set{registry: r, tx: t, own: own, cursors: make(map[string]*cursor), changes: changes}
		r.open[t.ID()] = s
	}
	r.mu.Unlock() // before OnEnd, which calls back with a lock of its own
	if s.watched {
		return s
	}
	s.watched = true
	t.OnEnd(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, t.ID())
	})
	return s
}

// serve makes a verb of what is done with a transaction's cursor.
func (r *registry) serve(do func(*set, context.Context, *service.Request, service.Fields) ([]byte, error)) func(context.Context, *txrunner.Transaction, *service.Request) {
	return func(ctx context.Context, t *txrunner.Transaction, request *service.Request) {
		f, err := readVerb(request)
		if err != nil {
			request.Answer(service.Reply{}, err)
			return
		}
		body, err := do(r.of(t, false), ctx, request, f)
		request.Answer(service.Reply{Data: body}, err)
	}
}

func readVerb(request *service.Request) (service.Fields, error) {
	switch {
	case len(request.Tokens) > 2:
		return nil, service.Errorf(service.CodeNotFound, "%s names the cursor in its body", request.Tokens[1])
	case request.Header.Get(nats.MsgIdHdr) != "":
		return nil, service.Errorf(service.CodeInvalidRequest, "a message id has no place on a pinned transaction")
	}
	return service.ReadFields(request.Data)
}

// parting is the page with which a transaction has ended.
type parting struct {
	cursor string
	number int64
	body   []byte
}

// part keeps the last page of a transaction that has ended with it, so that it
// can be asked for again.
func (r *registry) part(id string, last parting) {
	if last.number == 0 {
		return
	}
	last.body = slices.Clone(last.body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.order) == maxParting {
		delete(r.parting, r.order[0])
		r.order = r.order[1:]
	}
	r.parting[id] = last
	r.order = append(r.order, id)
}

// lateFetch answers the last page once more.
func (r *registry) lateFetch(request *service.Request, _ string) (service.Reply, bool) {
	f, err := service.ReadFields(request.Data)
	if err != nil {
		return service.Reply{}, false
	}
	var name string
	var number int64
	if f.Read("cursor", "a string", &name) != nil || f.Read("page", "a number", &number) != nil || number == 0 {
		return service.Reply{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.parting[request.Tokens[0]]
	return service.Reply{Data: last.body}, last.number == number && last.cursor == name
}

// lateClose answers a close after the end that it asks for.
func lateClose(_ *service.Request, reason string) (service.Reply, bool) {
	return service.Reply{Data: []byte(emptyObject)}, reason == readToEnd || reason == lastClosed
}
