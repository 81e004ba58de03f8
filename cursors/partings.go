package cursors

import (
	"slices"
	"sync"
	"time"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/service"
)

// maxParting is how many last pages of ended transactions are kept.
const maxParting = 32

// parting is the page with which a transaction has ended.
type parting struct {
	cursor string
	number int64
	body   []byte
	memory *budget.Hold
}

// partings are the last pages of transactions that ended with them. It is safe for
// concurrent use.
type partings struct {
	mu    sync.Mutex // guards the rest
	pages map[string]parting
	order []string // their ids
}

// keep keeps the last page of a transaction that has ended with it for some time, so
// that it can be asked for again.
func (p *partings) keep(id string, last parting, some time.Duration) {
	if last.number == 0 || last.memory.Grow(len(last.body)) != nil {
		return
	}
	last.body = slices.Clone(last.body)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.order) == maxParting {
		p.forgetLocked(p.order[0])
	}
	p.pages[id] = last
	p.order = append(p.order, id)
	time.AfterFunc(some, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.forgetLocked(id)
	})
}

// forgetLocked gives the page of a transaction up, if it is there.
func (p *partings) forgetLocked(id string) {
	if last, ok := p.pages[id]; ok {
		last.memory.Close()
		delete(p.pages, id)
		p.order = slices.DeleteFunc(p.order, func(other string) bool { return other == id })
	}
}

// lateFetch answers the last page once more.
func (p *partings) lateFetch(request *service.Request, _ string) (service.Reply, bool) {
	f, err := request.Fields()
	if err != nil {
		return service.Reply{}, false
	}
	var name string
	var number int64
	if f.Read("cursor", "a string", &name) != nil || f.Read("page", "a number", &number) != nil || number == 0 {
		return service.Reply{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.pages[request.Tokens[0]]
	return service.Reply{Data: last.body}, last.number == number && last.cursor == name
}
