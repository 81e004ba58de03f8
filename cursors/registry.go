package cursors

import (
	"context"
	"sync"

	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	verb        = "cursor"
	defaultRows = 1000
	emptyObject = "{}"
)

// registry knows the cursors of all transactions. It is safe for concurrent
// use.
type registry struct {
	sizes    knownSizes
	partings partings
	metrics  *metrics

	mu   sync.Mutex // guards open
	open map[string]*set
}

// of returns the cursors of a transaction; own says that it was begun for one.
func (r *registry) of(t *pinned.Transaction, own bool, request *service.Request) *set {
	changes, scripts := t.Changes()
	r.mu.Lock()
	s := r.open[t.ID()]
	if s == nil {
		s = &set{sizes: &r.sizes, partings: &r.partings, metrics: r.metrics, tx: t, own: own, cursors: make(map[string]*cursor), changes: changes, scripts: scripts, memory: &memory{hold: request.Memory()}}
		r.open[t.ID()] = s
	}
	r.mu.Unlock() // before OnEnd, which calls back with a lock of its own
	if s.watched {
		return s
	}
	s.watched = true
	t.BeforeScripts(s.align)
	t.OnEnd(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, t.ID())
		s.metrics.open.Sub(float64(s.counted))
		s.memory.close()
	})
	return s
}

// serve makes a verb of what is done with a transaction's cursor.
func (r *registry) serve(do func(*set, context.Context, *service.Request, service.Fields) ([]byte, error)) func(context.Context, *pinned.Transaction, *service.Request) {
	return func(ctx context.Context, t *pinned.Transaction, request *service.Request) {
		f, err := readVerb(request)
		if err != nil {
			request.Answer(service.Reply{}, err)
			return
		}
		body, err := do(r.of(t, false, request), ctx, request, f)
		request.Answer(service.Reply{Data: body}, err)
	}
}

func readVerb(request *service.Request) (service.Fields, error) {
	if err := pinned.NoMessageID(request); err != nil {
		return nil, err
	}
	return request.Fields()
}
