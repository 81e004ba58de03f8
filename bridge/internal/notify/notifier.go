// Package notify serves the requests that send a notification.
package notify

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/subject"
)

const (
	maxPayloadBytes = 7999 // https://www.postgresql.org/docs/current/sql-notify.html
	notifyBatch     = 64
	notifyTimeout   = 5 * time.Second
)

// Connections is how many connections serve requests to notify.
const Connections = 2

// Notifier serves <prefix>.notify.<channel>: it sends the body as a
// notification. Requests of one channel keep their order; the ones that wait
// go to PostgreSQL in one pipeline, each in a transaction of its own, since
// equal notifications in one transaction collapse into one.
type Notifier struct {
	Pool     *pgxpool.Pool
	channels atomic.Pointer[map[string]Takes]
}

// Takes says what a channel takes from NATS.
type Takes struct {
	Requests  bool // notifications whose sender waits for an answer
	Publishes bool // and those whose sender does not
}

// SetChannels replaces the channels there are.
func (n *Notifier) SetChannels(channels map[string]Takes) { n.channels.Store(&channels) }

// Takes reports whether clients may notify a channel.
func (n *Notifier) Takes(channel string) bool {
	all := n.channels.Load()
	return all != nil && (*all)[channel].Requests
}

// Endpoint is what the service has to serve.
func (n *Notifier) Endpoint(prefix string) service.Endpoint {
	return service.Endpoint{
		Name:    "notify",
		Subject: prefix + ".notify.>",
		Handler: n.serve,
		NoReply: n.takesPublish,
		Place: func(r *service.Request) service.Place {
			token := channelToken(r)
			return service.Place{Owner: token, Key: token}
		},
		MaxBatch: notifyBatch, Concurrency: Connections,
	}
}

func channelToken(r *service.Request) string { return strings.Join(r.Tokens, ".") }

// takesPublish reports whether a request is for a channel that takes plain
// publishes.
func (n *Notifier) takesPublish(r *service.Request) bool {
	name, err := subject.Untoken(channelToken(r))
	return err == nil && (*n.channels.Load())[name].Publishes
}

func (n *Notifier) serve(ctx context.Context, batch []*service.Request) {
	channel, err := n.channel(channelToken(batch[0]))
	if err != nil {
		answer(batch, err)
		return
	}
	good := batch[:0]
	for _, r := range batch {
		if err := validateNotify(r); err != nil {
			r.Answer(service.Reply{}, err)
			continue
		}
		good = append(good, r)
	}
	if len(good) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	conn, err := n.Pool.Acquire(ctx)
	if err != nil {
		answer(good, acquireError(err))
		return
	}
	defer conn.Release()
	send(ctx, conn.Conn().PgConn(), channel, good)
}

func (n *Notifier) channel(token string) (string, error) {
	name, err := subject.Untoken(token)
	if err != nil {
		return "", service.Errorf(service.CodeInvalidRequest, "the channel is not one encoded token: %v", err)
	}
	takes, known := (*n.channels.Load())[name]
	switch {
	case !known:
		return "", service.Errorf(service.CodeNotFound, "no channel %q", name)
	case !takes.Requests:
		return "", service.Errorf(service.CodeDenied, "channel %q does not take notifications from NATS: set notify", name)
	}
	return name, nil
}

func validateNotify(r *service.Request) error {
	payload := r.Data
	switch {
	case r.Header.Get(event.HeaderChannel) != "":
		// Another bridge's event: it would come back here for ever.
		return service.Errorf(service.CodeInvalidRequest, "the message has the header %s, so it is an event itself", event.HeaderChannel)
	case len(payload) > maxPayloadBytes:
		return service.Errorf(service.CodeTooLarge, "the payload has %d bytes, PostgreSQL takes %d", len(payload), maxPayloadBytes)
	case !utf8.Valid(payload):
		return service.Errorf(service.CodeInvalidRequest, "the payload is not UTF-8")
	}
	for _, c := range payload {
		if c == 0 {
			return service.Errorf(service.CodeInvalidRequest, "the payload holds a NUL byte")
		}
	}
	return nil
}

// acquireError tells a pool whose connections are all in use from a server
// that cannot be reached.
func acquireError(err error) error {
	var connect *pgconn.ConnectError
	if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &connect) {
		return service.Errorf(service.CodeBusy, "no PostgreSQL connection free within %s", notifyTimeout).WithCause(err)
	}
	return service.FromPostgres(err, false)
}

// send executes pg_notify for each request, all in one round trip.
func send(ctx context.Context, conn *pgconn.PgConn, channel string, batch []*service.Request) {
	p := conn.StartPipeline(ctx)
	for _, r := range batch {
		p.SendQueryParams("SELECT pg_catalog.pg_notify($1, $2)", [][]byte{[]byte(channel), r.Data}, nil, nil, nil)
		p.SendPipelineSync()
	}
	if err := p.Flush(); err != nil {
		answer(batch, service.FromPostgres(err, true))
		_ = p.Close()
		return
	}
	for _, r := range batch {
		if err := readNotified(p); err != nil {
			r.Answer(service.Reply{}, service.FromPostgres(err, true))
		} else {
			r.Answer(service.Reply{Data: []byte("{}")}, nil)
		}
	}
	_ = p.Close()
}

// readNotified reads one request's results up to its sync: only then has it
// been committed.
func readNotified(p *pgconn.Pipeline) error {
	var failed error
	for {
		result, err := p.GetResults()
		switch {
		case err != nil && isReport(err):
			failed = err // the sync follows
		case err != nil:
			return err
		case result == nil:
			return errors.Join(failed, errors.New("no more results"))
		}
		switch r := result.(type) {
		case *pgconn.PipelineSync:
			return failed
		case *pgconn.ResultReader:
			if _, err := r.Close(); err != nil {
				failed = err
			}
		}
	}
}

// isReport tells PostgreSQL's refusal of a statement from a broken connection.
func isReport(err error) bool {
	var report *pgconn.PgError
	return errors.As(err, &report) && cmp.Or(report.SeverityUnlocalized, report.Severity) == "ERROR"
}

func answer(batch []*service.Request, err error) {
	for _, r := range batch {
		r.Answer(service.Reply{}, err)
	}
}
