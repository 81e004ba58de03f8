package service

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Request is one message that asks for something. Its fields are for reading;
// they stay valid after the request was answered.
type Request struct {
	Subject  string
	Tokens   []string // of the subject, from the endpoint's first wildcard on
	Header   nats.Header
	Data     []byte
	Received time.Time

	reply    string // empty if nobody waits for an answer
	endpoint *endpoint
	answered atomic.Bool
}

// Reply is the answer to a request. The zero value is an empty message.
type Reply struct {
	Header nats.Header
	Data   []byte
}

// Handler serves one request. An error that is or wraps an *Error reaches the
// client as it is; any other is logged and reaches the client as internal.
// ctx ends when the service stops and its grace has run out; a handler that
// goes on then keeps Run from returning.
type Handler func(ctx context.Context, r *Request) (Reply, error)

// BatchHandler serves one or more requests and answers each with
// [Request.Answer] before it returns; one left without an answer is a defect
// and answered so. ctx is as for Handler. The batch is in the order received
// and the handler's to keep.
type BatchHandler func(ctx context.Context, batch []*Request)

// Each returns a BatchHandler that serves the requests of a batch one after
// the other.
func Each(h Handler) BatchHandler {
	return func(ctx context.Context, batch []*Request) {
		for _, r := range batch {
			reply, err := h(ctx, r)
			r.Answer(reply, err)
		}
	}
}

// ReplySubject is where the answer goes, empty if nobody waits for one. It
// begins with one of the prefixes that are allowed.
func (r *Request) ReplySubject() string { return r.reply }

// NoResponders reports whether the message is NATS's word that nobody has
// received one whose reply subject is this request's subject. Only an endpoint
// that is Alone hears it. Anybody who may publish there can send one too.
func (r *Request) NoResponders() bool {
	return len(r.Data) == 0 && r.Header.Get(statusHeader) == noResponders
}

// What NATS says when nobody listens, see
// https://docs.nats.io/nats-concepts/core-nats/reqreply#no-responders.
const (
	statusHeader = "Status"
	noResponders = "503"
)

// Answer sends reply, or err if it is not nil, to whoever waits for it, and
// counts the request as served. Only the first call has an effect. It does
// not wait for the network and is safe for concurrent use.
func (r *Request) Answer(reply Reply, err error) {
	if r.answered.CompareAndSwap(false, true) {
		r.endpoint.answer(r, reply, err)
	}
}
