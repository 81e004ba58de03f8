package pinned

import (
	"slices"
	"sync"

	"github.com/pgbridge/pgbridge/internal/service"
)

// maxReceivers is how many streams and copies one transaction may have at a time,
// with those whose clients have not heard their end yet.
const maxReceivers = 64

const verbAck = "ack"

// Receiver takes a request on a transaction as soon as it comes, in the order in
// which requests come, and answers it now or later. It must not block. False says
// that the request is not for it.
type Receiver func(request *service.Request) bool

// Acknowledged is a stream of chunks to a client.
type Acknowledged interface {
	// Acknowledge takes a request to <tx>.ack.<stream>.<number>, or NATS's word
	// that nobody receives the stream. It must not block.
	Acknowledge(request *service.Request)
}

// receivers are those of one transaction, the oldest first. They outlive it as
// long as the reason of its end is remembered: what a client was not told yet is
// told then.
type receivers struct {
	mu  sync.Mutex // guards all
	all []*receiver
}

// receiver is one by its verb and its id.
type receiver struct {
	verb, id string
	take     Receiver
	retired  bool // it only waits to tell how it ended
}

func (r *receivers) add(one *receiver) (retire func(last Receiver), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.indexLocked(one.verb, one.id); i >= 0 {
		if !r.all[i].retired {
			return nil, service.Errorf(service.CodeInvalidRequest, "the transaction uses the id %q already", one.id)
		}
		r.all = slices.Delete(r.all, i, i+1)
	}
	if len(r.all) == maxReceivers {
		oldest := slices.IndexFunc(r.all, func(r *receiver) bool { return r.retired })
		if oldest < 0 {
			return nil, service.Errorf(service.CodeBusy, "the transaction has %d streams and copies already", maxReceivers)
		}
		r.all = slices.Delete(r.all, oldest, oldest+1)
	}
	r.all = append(r.all, one)
	return func(last Receiver) { r.retire(one, last) }, nil
}

func (r *receivers) retire(one *receiver, last Receiver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one.take, one.retired = last, true; last == nil {
		r.all = slices.DeleteFunc(r.all, func(other *receiver) bool { return other == one })
	}
}

// deliver hands a request to its receiver, and reports whether that took it.
func (r *receivers) deliver(request *service.Request) bool {
	take := r.find(request.Tokens[1], request.Tokens[2])
	return take != nil && take(request)
}

func (r *receivers) find(verb, id string) Receiver {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.indexLocked(verb, id); i >= 0 {
		return r.all[i].take
	}
	return nil
}

func (r *receivers) indexLocked(verb, id string) int {
	return slices.IndexFunc(r.all, func(one *receiver) bool { return one.verb == verb && one.id == id })
}

func (r *receivers) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all) == 0
}
