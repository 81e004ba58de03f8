// Package chunks is a client's end of a stream of chunks: the data of a copy in
// either direction, or a cursor's remaining rows.
//
// It promises that every chunk is there, once and in order, or that there is an
// error; that no more is under way unacknowledged than the server allows; and
// that an error tells what is known of the transaction: [request.ErrOutcomeUnknown] is in
// it where nobody can say whether it was committed.
package chunks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
)

const (
	// silence is how long nothing may come before the transaction is asked
	// whether it is still there.
	silence = 10 * time.Second
	// rollbackLimit is how long giving up may take.
	rollbackLimit = 5 * time.Second
	// roomForMessages is more than a window of chunks can be.
	roomForMessages = 64 << 10
)

// Config says how a link talks to its server. All fields are required.
type Config struct {
	Conn  *nats.Conn
	Inbox string // all messages of the stream come below it; nobody else's may
	// Request sends one request and waits for the reply, for as long as ctx
	// allows. Nobody there is nats.ErrNoResponders.
	Request func(ctx context.Context, m *nats.Msg) (*nats.Msg, error)
	// Silence is how long nothing may come before the transaction is asked
	// whether it is still there; 0: 10 s.
	Silence time.Duration
}

// Link is one stream's end. It is for one goroutine.
type Link struct {
	config   Config
	sub      *nats.Subscription
	messages chan *nats.Msg
	tx       string // the transaction's subject, as soon as it is known
	id       string // the stream's, from its first reply
}

// New subscribes the inbox. The link is the caller's to Close.
func New(c Config) (*Link, error) {
	if c.Silence == 0 {
		c.Silence = silence
	}
	l := &Link{config: c, messages: make(chan *nats.Msg, roomForMessages)}
	var err error
	if l.sub, err = c.Conn.ChanSubscribe(c.Inbox+".>", l.messages); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return l, nil
}

// Close takes the inbox away: a server that sends still learns that nobody
// listens.
func (l *Link) Close() {
	_ = l.sub.Unsubscribe() // it ends with the connection, or now
}

// Open sends the request and returns the first reply, which may be an error of
// the server's. It waits for as long as ctx allows.
func (l *Link) Open(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	m.Reply = l.config.Inbox + ".0"
	if err := l.config.Conn.PublishMsg(m); err != nil {
		return nil, fmt.Errorf("request %s: %w", m.Subject, err)
	}
	for {
		var doubt <-chan time.Time // where it is known whom to ask
		if l.tx != "" {
			doubt = time.After(l.config.Silence)
		}
		select {
		case first := <-l.messages:
			if nobody(first) {
				return nil, fmt.Errorf("request %s: nobody serves it: %w", m.Subject, nats.ErrNoResponders)
			}
			if err := request.Taken(first); err != nil {
				return nil, fmt.Errorf("request %s: %w", m.Subject, err)
			}
			var opening struct{ ID string }
			if json.Unmarshal(first.Data, &opening) == nil { // else whoever reads all of it says so
				l.id = opening.ID
			}
			return first, nil
		case <-ctx.Done():
			return nil, notHeard(ctx, m.Subject)
		case <-doubt:
		}
		if err := l.alive(ctx); err != nil && len(l.messages) == 0 {
			return nil, fmt.Errorf("request %s: %w", m.Subject, err)
		}
	}
}

// notHeard says why no reply is waited for any more, and what that means.
func notHeard(ctx context.Context, subject string) error {
	why := context.Cause(ctx)
	if errors.Is(why, nats.ErrPermissionViolation) {
		return fmt.Errorf("request %s: %w", subject, why)
	}
	return fmt.Errorf("request %s: %w: %w", subject, why, request.ErrOutcomeUnknown)
}

// In names the transaction that the stream belongs to: before Open, where it is
// known by then, so that Open notices when it is gone, and before anything else.
func (l *Link) In(tx string) { l.tx = tx }

// nobody reports whether m is NATS's word that nobody has received a request.
func nobody(m *nats.Msg) bool { return len(m.Data) == 0 && m.Header.Get("Status") == "503" }

// Abandon rolls the transaction back, after err on this side. It returns err,
// with request.ErrOutcomeUnknown where that was too late or nobody answered. An error
// that is the server's own word needs nothing of this.
func (l *Link) Abandon(ctx context.Context, err error) error {
	if err == nil || told(err) || l.rollBack(ctx) {
		return err
	}
	return fmt.Errorf("%w: %w", err, request.ErrOutcomeUnknown) // if it is not over it stalls, and ends so
}

// told reports whether err says itself what became of the transaction.
func told(err error) bool {
	var e *api.Error
	return errors.As(err, &e) || errors.Is(err, request.ErrReplicaGone) || errors.Is(err, request.ErrOutcomeUnknown)
}

// rollBack reports whether the transaction was rolled back.
func (l *Link) rollBack(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit)
	defer cancel()
	m, err := l.config.Request(ctx, nats.NewMsg(l.tx+".rollback"))
	return err == nil && answered(m) == nil
}

// next returns the next message. Where none comes for a while it asks whether
// the transaction is still there.
func (l *Link) next(ctx context.Context) (*nats.Msg, error) {
	timer := time.NewTimer(l.config.Silence)
	defer timer.Stop()
	for {
		select {
		case m := <-l.messages:
			return m, failure(m)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
		}
		if err := l.alive(ctx); err != nil && len(l.messages) == 0 {
			return nil, err
		}
		timer.Reset(l.config.Silence)
	}
}

// failure is the error that a message is, or nil.
func failure(m *nats.Msg) error {
	if nobody(m) {
		return request.ErrReplicaGone
	}
	if e := api.DecodeError(m.Header, m.Data); e != nil {
		return e
	}
	return nil
}

// alive renews the lease, which tells whether the transaction is there.
func (l *Link) alive(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, l.config.Silence)
	defer cancel()
	m, err := l.config.Request(limited, nats.NewMsg(l.tx+".touch"))
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return request.ErrReplicaGone
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("nothing is heard of the transaction: %w", err)
	}
	return answered(m)
}

// answered is the error that the reply to a request is, or nil.
func answered(m *nats.Msg) error {
	if err := failure(m); err != nil {
		return err
	}
	return request.Taken(m)
}
