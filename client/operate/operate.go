// Package operate is for those who look after a pgbridge: what its replicas do, which
// channels it listens to, and what becomes of its jobs.
//
// What it is told shows no payload, parameter or row, and opens no transaction; jobs
// and their results are read from their streams, which takes the permissions to do so.
//
// Every method blocks until it is done or its context has ended; the error then holds
// the context's cause. What pgbridge answers as an error is a [*client.Error].
package operate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
)

// Options say which pgbridge it is. The zero value is one with default settings.
type Options struct {
	// Prefix is the first tokens of every subject; empty: pgbridge.
	Prefix string
	// JetStream is where the streams of jobs are, where it has a domain or an API
	// prefix of its own; nil: the connection's.
	JetStream jetstream.JetStream
	// Jobs and Results name the streams; empty: <PREFIX>_JOBS and <PREFIX>_RESULTS.
	Jobs, Results string
}

// Operator looks after one pgbridge. It holds no resources and is safe for concurrent
// use.
type Operator struct {
	nc      *nats.Conn
	options Options
}

// New returns an operator on a connection, which stays the caller's to close. It
// sends nothing.
func New(nc *nats.Conn, o Options) (*Operator, error) {
	o.Prefix = cmp.Or(o.Prefix, "pgbridge")
	o.Jobs, o.Results = cmp.Or(o.Jobs, streamName(o.Prefix, "JOBS")), cmp.Or(o.Results, streamName(o.Prefix, "RESULTS"))
	if o.JetStream == nil {
		var err error
		if o.JetStream, err = jetstream.New(nc); err != nil {
			return nil, fmt.Errorf("use JetStream: %w", err)
		}
	}
	return &Operator{nc, o}, nil
}

// Replica is what one replica does.
type Replica struct {
	Replica   string    `json:"replica"` // random, new at each start
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	State     string    `json:"state"`    // publishing, standby or orphan
	Problems  []string  `json:"problems"` // why it is not ready; none: it is
	Channels  int       `json:"channels"` // listened to
	Scripts   int       `json:"scripts"`
	// QueueBytes is what waits for NATS, by delivery: core and jetstream.
	QueueBytes  map[string]int64 `json:"queue_bytes"`
	JobsRunning int              `json:"jobs_running"`
	Connections []Connections    `json:"connections"`
	// Open is how many pinned transactions there are, Transactions the oldest of
	// them, as many as fit a message.
	Open         int           `json:"open_transactions"`
	Transactions []Transaction `json:"transactions"`
}

// Connections are those to PostgreSQL for one purpose: run, pinned, sql or jobs.
type Connections struct {
	Pool string `json:"pool"`
	Used int    `json:"used"`
	Idle int    `json:"idle"`
}

// Transaction is an open pinned transaction. Nothing in it lets anybody use it.
type Transaction struct {
	Key       string    `json:"key"`              // tells it from others
	Caller    string    `json:"caller,omitempty"` // who has begun it; empty: nobody vouches for one
	Script    string    `json:"script,omitempty"` // that it works on, or did last; empty: none that has a name
	State     string    `json:"state"`            // active, failed or held
	Busy      bool      `json:"busy"`             // a request is being served on it
	BegunAt   time.Time `json:"begun_at"`
	ExpiresAt time.Time `json:"expires_at"` // if nothing happens
	PID       uint32    `json:"pid"`        // of its backend
}

const (
	// replicaPause is how long after an answer another replica's is waited for.
	replicaPause = 300 * time.Millisecond
	// Anybody may answer, without end: so long after the first one answers are taken, so
	// many, and so many bytes of them.
	replicasWithin = 2 * time.Second
	mostReplicas   = 256
	mostBytes      = 16 << 20
)

// Status asks every replica what it does, and returns what those say that answer
// within a moment of each other, the first one to answer first. What is no replica's
// answer counts only where there is no other. Where nobody listens
// the error is nats.ErrNoResponders; where nobody answers before ctx ends it holds the
// context's cause.
func (o *Operator) Status(ctx context.Context) ([]Replica, error) {
	inbox := o.nc.NewInbox()
	sub, err := o.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", inbox, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(mostReplicas, mostBytes); err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", inbox, err)
	}
	to := o.options.Prefix + ".status"
	if err := o.nc.PublishRequest(to, inbox, nil); err != nil {
		return nil, fmt.Errorf("publish %s: %w", to, err)
	}
	m, err := nextAnswer(ctx, sub)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", to, err)
	}
	all, unread := []Replica(nil), error(nil)
	until, cancel := context.WithTimeout(ctx, replicasWithin)
	defer cancel()
	for n, bytes := 0, 0; err == nil && n < mostReplicas && bytes < mostBytes; n++ {
		var r Replica
		if failed := read(m, &r); failed == nil {
			all = append(all, r)
		} else {
			unread = failed
		}
		bytes += len(m.Data)
		m, err = oneMore(until, sub)
	}
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("ask %s: %w", to, context.Cause(ctx))
	case len(all) == 0:
		return nil, unread
	}
	return all, nil
}

// oneMore waits a moment for a further answer.
func oneMore(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, replicaPause)
	defer cancel()
	return nextAnswer(ctx, sub)
}

// nextAnswer waits for an answer as long as ctx allows.
func nextAnswer(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	m, err := sub.NextMsgWithContext(ctx)
	for errors.Is(err, nats.ErrSlowConsumer) { // some were dropped
		m, err = sub.NextMsgWithContext(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return m, err
}

// Channel is a channel that pgbridge listens to.
type Channel struct {
	Name     string `json:"name"`
	Subject  string `json:"subject"`  // of its events, with * for what a payload decides
	Gap      string `json:"gap"`      // of its gaps
	Delivery string `json:"delivery"` // core, jetstream or durable
	Notify   bool   `json:"notify"`   // clients may notify it
}

// Channels lists the channels that pgbridge listens to, in the order of their names.
func (o *Operator) Channels(ctx context.Context) ([]Channel, error) {
	var all []Channel
	to := o.options.Prefix + ".channels"
	for after, bytes := "", 0; ; {
		body, err := json.Marshal(map[string]string{"after": after})
		if err != nil {
			return nil, fmt.Errorf("encode the request %s: %w", to, err)
		}
		m, err := o.nc.RequestWithContext(ctx, to, body)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, fmt.Errorf("ask %s: %w", to, context.Cause(ctx))
		case err != nil:
			return nil, fmt.Errorf("ask %s: %w", to, err)
		}
		var list struct {
			Channels []Channel `json:"channels"`
			Next     string    `json:"next"`
		}
		if err := read(m, &list); err != nil {
			return nil, err
		}
		all = append(all, list.Channels...)
		if list.Next <= after {
			return all, nil
		}
		if bytes += len(m.Data); bytes > mostBytes { // or this might never end
			return nil, fmt.Errorf("ask %s: the list of channels does not end: something else than pgbridge has answered", to)
		}
		after = list.Next
	}
}

// read reads an answer; one that is an error is that.
func read(m *nats.Msg, into any) error {
	if err := client.ErrorIn(m); err != nil {
		return err
	}
	if err := json.Unmarshal(m.Data, into); err != nil {
		return fmt.Errorf("read the answer on %s: %w", m.Subject, err)
	}
	return nil
}
