package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/subject"
	"github.com/pgbridge/pgbridge/internal/tracing"
)

const (
	defaultConcurrency = 8

	confirmTimeout = 2 * time.Second
	confirmPause   = 100 * time.Millisecond
	drainTimeout   = 2 * time.Second
	// What NATS has delivered and nobody has looked at yet. A look takes no
	// longer than the delivery, so this is for bursts. Large messages have room
	// for as many as minReceived.
	maxReceived      = 65_536
	maxReceivedBytes = 8 << 20
	minReceived      = 2
)

// Request is one message that asks for something. Its fields are for reading;
// they stay valid after the request was answered.
type Request struct {
	Subject  string
	Tokens   []string // of the subject, from the endpoint's first wildcard on
	Header   nats.Header
	Data     []byte
	Received time.Time
	Owner    string // whose share of everything it uses, from Place
	Budget   *budget.Budget
	// Runs says that it asks for a script, or for SQL of its own: for who counts the
	// answers. Script is the script's name, if there is such a script.
	Runs   bool
	Script string

	reply    string     // empty if nobody waits for an answer
	nc       *nats.Conn // that the answer goes through
	endpoint *endpoint
	answered atomic.Bool
	span     *tracing.Span // of its work; nil: it is not traced
	memory   *budget.Hold  // what it has brought, until it is answered
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

// ReplySubject is where the answer goes, empty if nobody waits for one. It
// begins with one of the prefixes that are allowed.
func (r *Request) ReplySubject() string { return r.reply }

// Size is how much memory the request itself is in. It is counted until the request is
// answered: who keeps it for longer counts it.
func (r *Request) Size() int { return r.memory.Bytes() }

// Memory returns an account, in the name of the request's owner, for what its
// answer takes besides the request itself. The caller closes it.
func (r *Request) Memory() *budget.Hold { return r.Budget.Hold(r.Owner) }

// Endpoint describes requests of one kind. Name, Subject and Handler are
// required.
type Endpoint struct {
	// Name in discovery and metrics, A-Z a-z 0-9 _ -.
	Name string
	// Subject to subscribe, with or without wildcards. It must not overlap
	// with another endpoint's: a queue group hands each message to one member.
	Subject string
	// Handler serves the requests.
	Handler BatchHandler
	// MaxBatch is how many waiting requests of one key the handler takes at
	// once. Default 1.
	MaxBatch int
	// Concurrency is how many batches are served at a time. Default 8.
	Concurrency int
	// Place says who asks and what must keep its order. It is called in the
	// order received and must not block. Nil means that the subject owns the
	// request, and that there is no order.
	Place func(*Request) Place
	// NoReply reports whether a request is served though nobody waits for an
	// answer. It must not block. Nil means that none is: JetStream can be made
	// to send messages without a reply subject for whoever may call its API.
	NoReply func(*Request) bool
	// ForOperators says that it tells people what goes on: it is served, too, while
	// requests are refused, and missing it keeps nothing from being ready.
	ForOperators bool
	// Private, if set, makes the subject this process's own: it is subscribed
	// outside of the queue group.
	Private *Private
}

// Place is where a request belongs.
type Place struct {
	// Owner is whose share of memory, waiting places and workers it uses.
	Owner string
	// Key is what the request must keep its order in; empty means nothing.
	Key string
}

// Private describes an endpoint that no other process serves, whose subject
// holds a key to something. Subjects of requests are kept out of the log, and
// [Request.NoResponders] can be told.
type Private struct {
	// Direct takes requests that shall not wait in the queue. It is called for
	// every request, in the order received, and must not block: all others wait
	// for it. True means that it has taken the request and answers it, now or
	// later; one that has no reply subject it need not answer. Nil means that
	// all requests go through the queue.
	Direct func(*Request) bool
	// MaxWaiting is how many requests of one key may wait besides the batch
	// being served; the ones over it are answered busy. Zero means no limit.
	MaxWaiting int
	// Header returns what every reply to a request carries, errors included.
	// It is called when the request is answered and must not block. Nil means
	// nothing.
	Header func(*Request) nats.Header
	// Done keeps the endpoint subscribed when Run's context has ended, until it
	// is closed or the grace is over, so that what is under way can be finished
	// with further requests. Nil means that it ends with the others.
	Done <-chan struct{}
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (c Endpoint) validate() error {
	switch {
	case !namePattern.MatchString(c.Name):
		return fmt.Errorf("register endpoint %q: a name is made of A-Z a-z 0-9 _ -", c.Name)
	case c.Subject == "" || strings.ContainsAny(c.Subject, " \t\r\n") || c.Handler == nil:
		return fmt.Errorf("register endpoint %s: it needs a subject and a handler", c.Name)
	}
	return nil
}

// clashes reports whether both cannot be served.
func (c Endpoint) clashes(other Endpoint) bool {
	return c.Name == other.Name || subject.Overlaps(c.Subject, other.Subject)
}

// endpoint receives the requests of one subject:
//
//	not subscribed ──confirmed──► receiving ──ctx──► draining ──► end
//	      ▲                           │
//	      └────── retry ── refused ◄──┘
type endpoint struct {
	Endpoint
	host    *host
	nc      *nats.Conn
	literal int // tokens of the subject before its first wildcard
	problem atomic.Pointer[string]
	stats   stats

	flood    flood      // of the goroutine that receives
	refusals chan error // NATS's word against the subscription
	handled  atomic.Uint64
	now      atomic.Pointer[load] // nil: it was never run
	waited   prometheus.Observer

	mu   sync.Mutex // guards the rest
	sub  *nats.Subscription
	lost int // messages of this subscription that found no room
}

// load says how many requests wait and how many batches are being served.
type load func() (waiting, serving int)

func newEndpoint(h *host, config Endpoint) *endpoint {
	config.MaxBatch = cmp.Or(config.MaxBatch, 1)
	config.Concurrency = cmp.Or(config.Concurrency, defaultConcurrency)
	e := &endpoint{Endpoint: config, host: h, nc: h.nc, literal: literalTokens(config.Subject), refusals: make(chan error, 1)}
	if e.Private != nil {
		e.nc = h.config.Lasting
	}
	h.metrics.announce(config.Name)
	e.waited = h.metrics.waited.WithLabelValues(config.Name)
	e.notSubscribed()
	return e
}

func literalTokens(subject string) int {
	n := 0
	for token := range strings.SplitSeq(subject, ".") {
		if token == "*" || token == ">" {
			break
		}
		n++
	}
	return n
}

func (e *endpoint) queueGroup() string {
	if e.Private != nil {
		return ""
	}
	return e.host.config.QueueGroup
}

func (e *endpoint) notSubscribed() {
	text := fmt.Sprintf("%s is not subscribed yet", e.Subject)
	e.problem.Store(&text)
}

func (e *endpoint) follow(sub *nats.Subscription) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sub, e.lost = sub, 0
}

func (e *endpoint) subscription() *nats.Subscription {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sub
}

// hear takes an error that NATS reports, of this subscription or another.
func (e *endpoint) hear(sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrPermissionViolation) && forbids(err, e.Subject):
		select {
		case e.refusals <- fmt.Errorf("receive %s: %w", e.Subject, err):
		default: // it knows
		}
	case errors.Is(err, nats.ErrSlowConsumer) && sub != nil && sub == e.subscription():
		e.countLost()
	}
}

// forbids reports whether NATS refuses to subscribe a subject. There is only its
// text to tell by, as nats.go itself does.
func forbids(err error, subject string) bool {
	return strings.Contains(strings.ToLower(err.Error()), "subscription to \""+strings.ToLower(subject)+"\"")
}

// countLost counts the messages that found no room.
func (e *endpoint) countLost() {
	e.mu.Lock()
	defer e.mu.Unlock()
	lost, err := e.sub.Dropped()
	if err != nil || lost <= e.lost {
		return
	}
	e.host.metrics.lose(lost - e.lost)
	e.lost = lost
	e.host.config.Logger.Warn("requests are lost: they come faster than they can be refused", zap.String("subject", e.Subject))
}
