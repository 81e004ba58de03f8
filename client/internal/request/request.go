// Package request sends a client's requests, again where that cannot do them twice,
// and waits for their replies. What it answers says what is known: [ErrOutcomeUnknown]
// is in an error where nobody can say whether the request was done.
package request

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/wait"
)

var (
	// ErrOutcomeUnknown says that something was asked for, and nothing heard of
	// how it ended.
	ErrOutcomeUnknown = errors.New("whether it was done is not known")
	// ErrReplicaGone says that the replica that held the transaction has gone.
	ErrReplicaGone = errors.New("the replica that held the transaction is gone")
)

// defaultSilence is after what time without an answer it is doubted that one will
// come.
const defaultSilence = 10 * time.Second

// Request is one request, and what may be done about its failures.
type Request struct {
	Subject string
	Body    any           // encoded as JSON; []byte and nil are sent as they are
	ID      string        // a message id; empty: none
	Limit   time.Duration // how long a reply is waited for; 0: the sender's patience
	// Repeatable says that it can be sent again although it may have been done.
	Repeatable bool
	// InTx says that it goes to a transaction: where nobody is there, nobody will
	// be.
	InTx bool
}

// Sender sends requests on a connection. It is safe for concurrent use.
type Sender struct {
	Conn     *nats.Conn
	Inbox    func() string // makes the subject of a reply; nil: nats.go does
	Patience time.Duration // how long a reply is waited for
	Retries  int           // how often a request is sent again where that is safe
	Backoff  wait.Backoff  // between tries
	Silence  time.Duration // after which an answer is doubted; 0: 10 s
}

// Exchange sends a request, again where that is safe, and returns the reply that
// is no error. One that pgbridge answers is an *api.Error.
func (s *Sender) Exchange(ctx context.Context, r Request) (*nats.Msg, error) {
	m, err := r.Message()
	if err != nil {
		return nil, err
	}
	for tries := 1; ; tries++ {
		reply, err := s.try(ctx, m, r, s.Limit(r, tries))
		if err == nil || !s.Again(ctx, r, tries, err) {
			return reply, err
		}
	}
}

// Again waits until a request may be sent once more after so many tries, of which
// the last has failed with err. It returns false at once where it may not be, or
// where ctx would end before.
func (s *Sender) Again(ctx context.Context, r Request, tries int, err error) bool {
	return tries <= s.Retries && r.again(err) && wait.Within(ctx, s.Backoff.After(tries))
}

// Message is what is sent.
func (r Request) Message() (*nats.Msg, error) {
	m := nats.NewMsg(r.Subject)
	if r.ID != "" {
		m.Header.Set(nats.MsgIdHdr, r.ID)
	}
	if data, ok := r.Body.([]byte); ok || r.Body == nil {
		m.Data = data
		return m, nil
	}
	var err error
	if m.Data, err = json.Marshal(r.Body); err != nil {
		return nil, fmt.Errorf("encode the request %s: %w", r.Subject, err)
	}
	return m, nil
}

// again reports whether the request can be sent once more after err.
func (r Request) again(err error) bool {
	var e *api.Error
	switch {
	case errors.As(err, &e) && e.Code == api.CodeUnknown:
		return r.ID != ""
	case e != nil:
		return e.Retryable
	case errors.Is(err, ErrReplicaGone):
		return false
	case errors.Is(err, nats.ErrNoResponders):
		return true // nobody has it
	case errors.Is(err, ErrOutcomeUnknown):
		return r.ID != "" || r.Repeatable
	}
	return false
}

// Limit is how long a try waits for its reply. What can be repeated does not
// wait long for a reply that may be lost, but longer each time: pgbridge may
// still be at it.
func (s *Sender) Limit(r Request, tries int) time.Duration {
	limit := cmp.Or(r.Limit, s.Patience)
	if r.Repeatable && tries <= s.Retries {
		limit = min(limit, cmp.Or(s.Silence, defaultSilence)<<(tries-1))
	}
	return limit
}

// try sends the request once and returns the reply; one that is an error is an
// *api.Error.
func (s *Sender) try(ctx context.Context, m *nats.Msg, r Request, limit time.Duration) (*nats.Msg, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	reply, err := s.Once(limited, m)
	switch {
	case err == nil:
		if failure := api.DecodeError(reply.Header, reply.Data); failure != nil {
			return nil, failure
		}
		if err := Taken(reply); err != nil {
			return nil, fmt.Errorf("request %s: %w", m.Subject, err)
		}
		return reply, nil
	case errors.Is(err, nats.ErrNoResponders) && r.InTx:
		return nil, fmt.Errorf("request %s: %w", m.Subject, ErrReplicaGone)
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("request %s: nobody serves it: %w", m.Subject, err)
	case forbidden(ctx):
		return nil, fmt.Errorf("request %s: %w", m.Subject, context.Cause(ctx))
	case ctx.Err() != nil:
		return nil, fmt.Errorf("request %s: %w: %w", m.Subject, context.Cause(ctx), ErrOutcomeUnknown)
	case limited.Err() != nil:
		return nil, fmt.Errorf("request %s: no answer within %s: %w", m.Subject, limit, ErrOutcomeUnknown)
	}
	return nil, fmt.Errorf("request %s: %w", m.Subject, err)
}

// maxAcknowledgement is more than a stream's acknowledgement has.
const maxAcknowledgement = 1 << 10

// Taken is the error that a reply is which a stream has given, nil where none has: one that
// takes in what pgbridge is asked is quicker than pgbridge, and its acknowledgement is no reply
// of pgbridge's.
func Taken(reply *nats.Msg) error {
	var ack struct {
		Stream string `json:"stream"`
		Seq    uint64 `json:"seq"`
	}
	if len(reply.Data) > maxAcknowledgement || json.Unmarshal(reply.Data, &ack) != nil || ack.Seq == 0 || ack.Stream == "" {
		return nil
	}
	return fmt.Errorf("the stream %q has taken it, and answers in pgbridge's stead: %w", ack.Stream, ErrOutcomeUnknown)
}

// forbidden reports whether ctx was ended because NATS let a request not
// through: then it was not done.
func forbidden(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), nats.ErrPermissionViolation)
}

// Once sends a message as it is and returns the reply, whatever that says. It waits
// for as long as ctx allows; nobody there is nats.ErrNoResponders.
func (s *Sender) Once(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	Trace(ctx, m)
	if s.Inbox == nil {
		return s.Conn.RequestMsgWithContext(ctx, m)
	}
	sub, err := s.Conn.SubscribeSync(s.Inbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // it ends with the connection, or now
	if err := s.Conn.PublishMsg(&nats.Msg{Subject: m.Subject, Reply: sub.Subject, Header: m.Header, Data: m.Data}); err != nil {
		return nil, err
	}
	reply, err := sub.NextMsgWithContext(ctx)
	if err == nil && len(reply.Data) == 0 && reply.Header.Get("Status") == "503" {
		return nil, nats.ErrNoResponders
	}
	return reply, err
}

// Trace has a message name the span that the context is in, if it is in one: what is
// done for the message belongs to it. https://www.w3.org/TR/trace-context/
func Trace(ctx context.Context, m *nats.Msg) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	if m.Header == nil {
		m.Header = nats.Header{}
	}
	headers := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, headers)
	for name, value := range headers {
		m.Header.Set(name, value)
	}
}
