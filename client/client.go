// Package client uses pgbridge over NATS: it runs scripts, holds transactions,
// reads cursors, copies rows in and out, leaves jobs and receives events.
//
//	c, err := client.New(nc, client.Options{})
//	reply, err := c.Run(ctx, client.Script{Name: "transfer", Params: client.Params{
//		"source": 1, "target": 2, "amount": "10.50",
//	}})
//
// # What it promises
//
// An error that pgbridge answers is an [*Error], with everything that PostgreSQL
// said. Where nobody can say whether a request was done, the error is
// [ErrOutcomeUnknown]; every other error means that it was not, unless a method
// says otherwise. A request is sent again by itself only where that cannot do it
// twice: pgbridge says that it may succeed later ([Error.Retryable]), nobody was
// there to take it, or it has a message id.
//
// nats.go tells a missing permission to the connection's error handler only. A
// handler may end a request's context with that error as the cause, instead of
// having it wait for an answer that cannot come.
//
// A copy, and a cursor that is read to its end, gives every row once and in
// order, or an error.
//
// Every method blocks until it is done or its context has ended; the error then
// holds the context's cause. A [Client] is safe for concurrent use. So is a
// [Tx], whose requests pgbridge serves one at a time; a [Cursor], a [Job] and a
// [Subscription] are for one goroutine.
package client

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/subject"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Options say how a client uses its connection. The zero value is one for a
// pgbridge with default settings.
type Options struct {
	// Prefix is the first tokens of every subject; empty: pgbridge.
	Prefix string
	// Caller makes the requests be this caller's: they go to <prefix>.as.<caller>,
	// for which NATS permissions can vouch. Empty: nobody's. A job has no caller.
	Caller string
	// InboxPrefix begins the subjects of replies, for users that may subscribe
	// only inboxes of their own. Empty: the connection's, _INBOX if it has none.
	// JetStream's replies have the connection's in any case, so set it there
	// (nats.CustomInboxPrefix) where that can be done.
	InboxPrefix string
	// Patience is how long a reply is waited for where the context ends later
	// and the script names no Timeout; 0: 5 m 10 s, a little more than pgbridge
	// itself takes by default.
	Patience time.Duration
	// Retries is how often a request is sent again where that is safe; 0: 5,
	// less than 0: never. Pauses between them grow from 100 ms to 5 s.
	Retries int
	// JetStream is what jobs and streams of events go through, where it has a
	// domain or an API prefix of its own; nil: the connection's.
	JetStream jetstream.JetStream
}

// Client uses one pgbridge. It holds no resources.
type Client struct {
	nc       *nats.Conn
	options  Options
	requests *request.Sender
	newInbox func() string
}

const (
	defaultPrefix   = "pgbridge"
	defaultPatience = 5*time.Minute + waySlack
	defaultRetries  = 5
	// waySlack is for the way there and back.
	waySlack = 10 * time.Second
)

// New returns a client on a connection, which stays the caller's to close. It
// sends nothing. The error names an option that cannot be used.
func New(nc *nats.Conn, o Options) (*Client, error) {
	o.Prefix = cmp.Or(o.Prefix, defaultPrefix)
	o.Patience = cmp.Or(o.Patience, defaultPatience)
	o.Retries = cmp.Or(o.Retries, defaultRetries)
	for _, p := range []struct{ name, value string }{{"prefix", o.Prefix}, {"inbox prefix", o.InboxPrefix}} {
		if p.value != "" && !plainSubject(p.value) {
			return nil, fmt.Errorf("%s %q: want subject tokens without wildcards", p.name, p.value)
		}
	}
	if o.JetStream == nil {
		var err error
		if o.JetStream, err = jetstream.New(nc); err != nil {
			return nil, fmt.Errorf("use JetStream: %w", err)
		}
	}
	c := &Client{nc: nc, options: o, newInbox: nc.NewInbox, requests: &request.Sender{
		Conn: nc, Patience: o.Patience, Retries: o.Retries,
		Backoff: wait.Backoff{First: 200 * time.Millisecond, Max: 5 * time.Second},
	}}
	if o.InboxPrefix != "" {
		c.newInbox = func() string { return o.InboxPrefix + "." + nats.NewInbox()[len(nats.InboxPrefix):] }
		c.requests.Inbox = c.newInbox
	}
	return c, nil
}

// plainSubject reports whether s can be the beginning of a subject.
func plainSubject(s string) bool {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n") {
			return false
		}
	}
	return true
}

// subject is where the caller asks for a verb; empty tokens are left out.
func (c *Client) subject(tokens ...string) string {
	if c.options.Caller != "" {
		tokens = append([]string{"as", subject.Token(c.options.Caller)}, tokens...)
	}
	return c.plain(tokens...)
}

// plain is a subject that knows no caller.
func (c *Client) plain(tokens ...string) string { return join(c.options.Prefix, tokens...) }

func join(prefix string, tokens ...string) string {
	all := prefix
	for _, t := range tokens {
		if t != "" {
			all += "." + t
		}
	}
	return all
}

var errNoScript = errors.New("want a script's name or SQL, and not both")
