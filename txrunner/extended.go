package txrunner

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
)

// What extensions do with a pinned transaction.

// Acknowledged is a stream of chunks to a client.
type Acknowledged interface {
	// Acknowledge takes a request to <tx>.ack.<stream>.<number>, or NATS's word
	// that nobody receives the stream. It must not block.
	Acknowledge(request *service.Request)
}

// ID is the transaction's token in subjects, and the key to it.
func (t *Transaction) ID() string { return t.id }

// Subject is what its verbs are appended to.
func (t *Transaction) Subject() string { return t.pins.subject + "." + t.id }

// Idle is how long it may be without a request, and PostgreSQL without a
// statement while one is being served.
func (t *Transaction) Idle() time.Duration { return t.idle }

// State returns what can be done with it now.
func (t *Transaction) State() State { return t.current() }

// Header returns the state as every reply about the transaction carries it.
// Replies to requests on the transaction's own subject get it anyway.
func (t *Transaction) Header() nats.Header { return stateHeader(t.current()) }

// Changes returns a number that is another one when a script was run or a
// savepoint rolled back to, so that cursors may have come or gone.
func (t *Transaction) Changes() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changes
}

func (t *Transaction) changed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
}

// Hold says how many of the transaction's cursors outlive its COMMIT. It is
// called by the work in whose turn that changes. A transaction with such
// cursors is held after COMMIT, until there are none.
func (t *Transaction) Hold(cursors int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = cursors
}

// OnEnd has f called when the transaction has ended, at once if it has. f must
// not block and must not use the transaction.
func (t *Transaction) OnEnd(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == StateEnded {
		f()
		return
	}
	t.onEnd = append(t.onEnd, f)
}

// End rolls the transaction back, after cancelling what is being done, and
// returns when that has happened. The first reason counts.
func (t *Transaction) End(reason string) { t.end(reason) }

// AddStream makes acknowledgements of a stream reach it until the function that
// is returned is called. The id is one token; one that is in use is refused.
func (t *Transaction) AddStream(id string, s Acknowledged) (remove func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, used := t.streams[id]; used {
		return nil, service.Errorf(service.CodeInvalidRequest, "the transaction has a stream %q already", id)
	}
	if t.streams == nil {
		t.streams = make(map[string]Acknowledged)
	}
	t.streams[id] = s
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.streams, id)
	}, nil
}

func (t *Transaction) stream(id string) Acknowledged {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.streams[id]
}
