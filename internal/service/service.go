// Package service answers requests from NATS. A Service is a NATS micro
// service (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md)
// whose few endpoints are wildcard subjects in one queue group:
//
//	subscription → reply prefix → Key → lane → one of Concurrency workers → BatchHandler → reply
//	                            ↘ Direct → reply, now or later
//
// What it promises:
//   - A request with a reply subject gets exactly one answer from this
//     process, as long as the NATS connection holds: a result or an error as
//     clients know them ([Error]). A panic becomes an error reply as well.
//   - Requests of one endpoint with the same key are served one at a time, in
//     the order received, alone or as a batch; all others run in parallel.
//   - Nothing is published to a reply subject outside the allowed prefixes,
//     not even an answer to a $SRV request; such a request is not served.
//   - What does not fit the bounded queue is refused as busy at once, as long
//     as the refusals keep up; what comes faster is lost, counted and logged.
//   - Run ends only after everything it received has been answered.
//
// The service speaks the micro protocol itself rather than through
// micro.AddService. That would serve an endpoint's requests one at a time,
// lose the count of errors answered elsewhere, hide refused subscriptions,
// and answer $SRV requests wherever their sender wants.
package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/internal/subject"
)

const (
	defaultGrace       = 25 * time.Second
	defaultConcurrency = 8
	defaultMaxWaiting  = 1024

	resubscribeAfter = 5 * time.Second
	lastFlushTimeout = 2 * time.Second
)

// Config describes a service. Name, Version and ReplyPrefixes are required;
// the zero value of any other field means its documented default.
type Config struct {
	// Name of the micro service, A-Z a-z 0-9 _ -.
	Name string
	// Version of the program, semantic.
	Version string
	// Description for people who discover the service.
	Description string
	// Metadata is shown by discovery. It is called for every answer, possibly
	// from several goroutines. Nil means none.
	Metadata func() map[string]string
	// QueueGroup that all replicas share. Default: the name.
	QueueGroup string
	// ReplyPrefixes are the tokens a reply subject may begin with: _INBOX
	// allows _INBOX.x and not _INBOXES.x. Requests that want their answer
	// elsewhere are dropped: NATS does not check a reply subject against the
	// permissions of its sender, so the answer would go wherever this process
	// may publish.
	ReplyPrefixes []string
	// StopGrace is how long handlers may go on after Run's context ended.
	// Default 25 s.
	StopGrace time.Duration
	// Logger receives what no client is told. Nil means none.
	Logger *zap.Logger
}

// Endpoint describes requests of one kind. Name, Subject and Handler are
// required.
type Endpoint struct {
	// Name in discovery and metrics, A-Z a-z 0-9 _ -.
	Name string
	// Subject to subscribe, with or without wildcards. It must not overlap
	// with another endpoint's: a queue group hands each message to one member.
	Subject string
	// Alone says that no other process serves the subject: it is subscribed
	// outside of the queue group. Only then does NATS tell when nobody has
	// received a message whose reply subject is below it; see
	// [Request.NoResponders].
	Alone bool
	// Handler serves the requests.
	Handler BatchHandler
	// Key names what a request must keep its order in; requests with an empty
	// key have none. It is called in the order received and must not block.
	// Nil means no order at all.
	Key func(*Request) string
	// MaxBatch is how many waiting requests of one key the handler takes at
	// once. Default 1.
	MaxBatch int
	// Concurrency is how many batches are served at a time. Default 8.
	Concurrency int
	// MaxWaiting is how many requests may wait for a worker; the ones over it
	// are answered busy. Default 1024.
	MaxWaiting int
	// MaxWaitingPerKey is how many requests of one key may wait besides the
	// batch being served; the ones over it are answered busy. Zero means that
	// only MaxWaiting counts.
	MaxWaitingPerKey int
	// Direct takes requests that shall not wait in the queue. It is called for
	// every request, in the order received, and must not block: all others wait
	// for it. True means that it has taken the request and answers it, now or
	// later; one that has no reply subject it need not answer. Nil means that
	// all requests go through the queue.
	Direct func(*Request) bool
	// Linger keeps the endpoint subscribed when Run's context has ended, until
	// it is closed or the grace is over, so that what is under way can be
	// finished with further requests. Nil means that it does not linger.
	Linger <-chan struct{}
	// Header returns what every reply to a request carries, errors included.
	// It is called when the request is answered and must not block. Nil means
	// nothing.
	Header func(*Request) nats.Header
	// SecretSubjects keeps the subjects of requests out of the log, for those
	// that are a key to something. The endpoint's own subject stands for them.
	SecretSubjects bool
}

// Service serves requests. Its methods are safe for concurrent use, except
// that Handle must not be called after Run. It is a Prometheus collector.
type Service struct {
	config    Config
	nc        *nats.Conn
	id        string
	started   time.Time
	retry     time.Duration // until a refused subscription is tried again
	endpoints []*endpoint
	metrics   *metrics
}

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	prefixPattern = regexp.MustCompile(`^[^\s.*>]+(\.[^\s.*>]+)*$`)
)

// New returns a service that talks through nc. The connection may still be
// connecting, but must have been opened with
// nats.PermissionErrOnSubscribe(true): without it a refused subscription
// would look like a quiet one.
func New(nc *nats.Conn, config Config) (*Service, error) {
	if !nc.Opts.PermissionErrOnSubscribe {
		return nil, errors.New("create service: the NATS connection was opened without PermissionErrOnSubscribe")
	}
	if !namePattern.MatchString(config.Name) {
		return nil, fmt.Errorf("create service %q: a name is made of A-Z a-z 0-9 _ -", config.Name)
	}
	if len(config.ReplyPrefixes) == 0 {
		return nil, errors.New("create service: no reply prefixes, so no request could be answered")
	}
	for _, prefix := range config.ReplyPrefixes {
		if !prefixPattern.MatchString(prefix) {
			return nil, fmt.Errorf("create service: reply prefix %q is not made of whole subject tokens", prefix)
		}
	}
	config.QueueGroup = cmp.Or(config.QueueGroup, config.Name)
	config.StopGrace = cmp.Or(config.StopGrace, defaultGrace)
	config.Logger = cmp.Or(config.Logger, zap.NewNop())
	return &Service{
		config:  config,
		nc:      nc,
		id:      rand.Text(),
		started: time.Now().UTC(),
		retry:   resubscribeAfter,
		metrics: newMetrics(),
	}, nil
}

// hearErrors has the endpoints look at their subscriptions when NATS reports an
// error, after whoever else wants to know of it.
func (s *Service) hearErrors() {
	others := s.nc.ErrorHandler()
	s.nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if others != nil {
			others(nc, sub, err)
		}
		for _, e := range s.endpoints {
			select {
			case e.reported <- struct{}{}:
			default: // it will look anyway
			}
		}
	})
}

// Handle registers an endpoint. It must be called before Run.
func (s *Service) Handle(config Endpoint) error {
	if !namePattern.MatchString(config.Name) {
		return fmt.Errorf("register endpoint %q: a name is made of A-Z a-z 0-9 _ -", config.Name)
	}
	if config.Subject == "" || strings.ContainsAny(config.Subject, " \t\r\n") || config.Handler == nil {
		return fmt.Errorf("register endpoint %s: it needs a subject and a handler", config.Name)
	}
	for _, e := range s.endpoints {
		if e.Name == config.Name || subject.Overlaps(e.Subject, config.Subject) {
			return fmt.Errorf("register endpoint %s on %s: %s on %s exists", config.Name, config.Subject, e.Name, e.Subject)
		}
	}
	s.endpoints = append(s.endpoints, newEndpoint(s, config))
	return nil
}

// Run subscribes the endpoints and serves them until ctx ends; then it takes
// no more requests, waits for the ones it has, and returns nil. When StopGrace
// runs out first, the handlers' context ends and what still waits is answered
// unavailable. Run blocks, may be called once, and returns an error only if
// the connection was closed. It survives reconnects and refused
// subscriptions: see [Service.Problems]. From then on it hears the connection's
// errors, which reach the connection's own error handler too, unless that is
// set later.
func (s *Service) Run(ctx context.Context) error {
	s.hearErrors()
	group, ctx := errgroup.WithContext(ctx)
	work, cancel := withGrace(ctx, s.config.StopGrace)
	defer cancel()
	for _, e := range s.endpoints {
		group.Go(func() error { return e.run(ctx, work) })
	}
	group.Go(func() error { return s.monitor(ctx) })
	err := group.Wait()
	// What the link does not take in time is lost with the process; its
	// sender runs into a time-out.
	if err := s.flush(context.WithoutCancel(ctx), lastFlushTimeout); err != nil {
		s.config.Logger.Warn("last replies may be lost", zap.Error(err))
	}
	return err
}

// Problems says why the service does not, or not yet, receive every request,
// one line for each endpoint concerned. Empty means that NATS confirmed all
// subscriptions. A lost connection is not a problem of the service's own.
func (s *Service) Problems() []string {
	var problems []string
	for _, e := range s.endpoints {
		if p := e.problem.Load(); p != nil {
			problems = append(problems, *p)
		}
	}
	return problems
}

// Dropped returns how many requests were not served because their reply
// subject is not allowed.
func (s *Service) Dropped() int64 { return s.metrics.hostile.Load() }

// replyAllowed reports whether an answer may be published to subject.
func (s *Service) replyAllowed(subject string) bool {
	return slices.ContainsFunc(s.config.ReplyPrefixes, func(prefix string) bool {
		rest, ok := strings.CutPrefix(subject, prefix)
		return ok && (rest == "" || rest[0] == '.')
	})
}

// flush returns when the server has seen all that was sent to it. It waits
// for an answer, but not for a connection.
func (s *Service) flush(ctx context.Context, timeout time.Duration) error {
	if !s.nc.IsConnected() && !s.nc.IsClosed() {
		return nats.ErrDisconnected // a flush would be forgotten by the reconnect
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("flush to NATS: %w", err)
	}
	return nil
}

// settle returns when the server has seen all that was sent to it, and the
// direct requests have been taken that it sent before it had.
func (s *Service) settle(ctx context.Context) error {
	if err := s.flush(ctx, deliverTimeout); err != nil {
		return err
	}
	for _, e := range s.endpoints {
		if e.Direct == nil {
			continue
		}
		done := make(chan struct{})
		select {
		case e.settled <- done:
			<-done
		case <-ctx.Done():
			return fmt.Errorf("receive %s: %w", e.Subject, ctx.Err())
		}
	}
	return nil
}

// withGrace returns a context that ends grace after ctx has.
func withGrace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-work.Done():
		}
	})
	return work, func() { stop(); cancel() }
}
