package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/bridge/internal/control"
	"github.com/pgbridge/pgbridge/bridge/internal/durable"
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/listen"
	"github.com/pgbridge/pgbridge/bridge/internal/notify"
	"github.com/pgbridge/pgbridge/bridge/internal/publish"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
	"github.com/pgbridge/pgbridge/bridge/internal/tell"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/tracing"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Bridge carries notifications from one PostgreSQL database to NATS. Its
// methods are safe for concurrent use. It is a Prometheus collector.
type Bridge struct {
	config    Config
	settings  *postgres.Settings
	metrics   *metrics
	lease     *lease.Lease
	seq       *sequence.Sequencer
	control   *control.Control
	listener  *listen.Listener
	stream    *publish.EventStream
	core      *publish.CorePublisher
	published *publish.StreamPublisher
	feed      *durable.Feed
	notify    *notify.Notifier
	teller    *tell.Teller
	service   *service.Service
	problems  []*problem.Problem

	channels atomic.Int64                            // configured
	chosen   atomic.Pointer[map[string]*event.Route] // the channels there are
	pool     atomic.Pointer[pgxpool.Pool]            // for what is asked now and then; nil: Run was not called

	reload sync.Mutex // serializes setChannels
}

// New validates the configuration and returns a Bridge that Run starts. It
// connects to nothing. Its error joins one *ConfigError for each fault.
func New(config Config) (*Bridge, error) {
	config = config.withDefaults()
	var f faults
	if config.Events == nil {
		f.add("nats", "no connection")
	}
	settings, err := postgres.Parse(config.ConnString, postgres.Options{
		PasswordFile:    config.PasswordFile,
		ApplicationName: config.ApplicationName,
	})
	if err != nil {
		f = append(f, err)
	}
	if err := errors.Join(append(f, config.Validate())...); err != nil {
		return nil, err
	}
	b := &Bridge{config: config, settings: settings, metrics: newMetrics(), lease: lease.New()}
	if err := b.assemble(); err != nil {
		return nil, err
	}
	return b, b.setChannels(config.Channels)
}

// assemble makes the parts and connects them, as the package's picture shows.
func (b *Bridge) assemble() error {
	c := b.config
	replica := sequence.RandomHex(4)
	moved := wait.NewSignal()
	wanted, askListener, askControl := wait.NewSignal(), wait.NewSignal(), wait.NewSignal()
	b.seq = &sequence.Sequencer{
		Replica: replica, Marker: sequence.MarkerChannel(c.Group), Lease: b.lease, Now: time.Now,
		Core: queue.NewRing(c.limits(0)), Stream: queue.NewRing(c.limits(keptBytes)),
		WantMarker: wanted.Raise,
	}
	b.control = &control.Control{
		Settings: b.settings, Events: c.Events, Seq: b.seq, Lease: b.lease, Log: c.Logger, Wanted: wanted,
		Channel: sequence.MarkerChannel(c.Group), Key: control.LockKey(c.Group), Listener: listenerName(c.ApplicationName, replica),
		Doubt: askControl, Failed: askListener.Raise,
		Problem: b.problem(part.Control, problem.ExplainSession), Late: problem.New(part.Marker, error.Error),
		Foreign: problem.New(part.Lock, error.Error), Apart: b.problem(part.Others, error.Error), Moved: moved, Leave: wait.NewSignal(), Astray: wait.NewSignal(),
		Others: func(ctx context.Context, known []string) map[string]string {
			return control.Others(ctx, c.Requests, c.Prefix, known)
		},
	}
	b.listener = &listen.Listener{
		Settings: b.settings, Application: listenerName(c.ApplicationName, replica), Seq: b.seq, Log: c.Logger,
		QueueUsage: b.control.QueueUsage, PauseLimit: listen.PauseAtMost, Marker: sequence.MarkerChannel(c.Group), Changed: wait.NewSignal(),
		Doubt: askListener, Failed: askControl.Raise, Moved: moved.Raise,
		Problem: b.problem(part.Listener, problem.ExplainPostgres),
	}
	b.control.Elsewhere, b.control.Received, b.control.Silent = b.listener.Elsewhere, b.listener.Received, b.listener.Leave
	js, err := c.jetStream(c.Events)
	if err != nil {
		return err
	}
	b.stream = publish.NewEventStream(js, c.Prefix, c.Stream.need())
	b.core = &publish.CorePublisher{
		NC: c.Events, Queue: b.seq.Core, Seq: b.seq, Lease: b.lease, Log: c.Logger,
		Encoder: event.NewEncoder(c.Prefix, b.settings.Database()), Latency: b.metrics.observer(DeliveryCore), Sweeper: newSweeper(c.CatchUp, b.control),
		Refused: problem.New(part.Publish, error.Error),
	}
	b.published = &publish.StreamPublisher{
		NC: c.Events, Stream: b.stream, Queue: b.seq.Stream, Seq: b.seq, Lease: b.lease, Log: c.Logger,
		Encoder: event.NewEncoder(c.Prefix, b.settings.Database()), Latency: b.metrics.observer(DeliveryJetStream), Sweeper: newSweeper(c.CatchUp, b.control),
		Problem: b.problem(part.Stream, error.Error), Refused: problem.New(part.PublishToStream, error.Error),
	}
	b.feed = &durable.Feed{
		Changed:  wait.NewSignal(),
		Settings: b.settings, NC: c.Events, JetStream: js, Prefix: c.Prefix, Stream: c.Durable.options(c.Prefix), Accept: c.Durable.AcceptHistory,
		Lease: b.lease.Valid, Log: c.Logger, Counters: b.metrics.of, Latency: b.metrics.observer(deliveryDurable),
		Encoder: event.NewEncoder(c.Prefix, b.settings.Database()), Problem: problem.New(part.Durable, problem.ExplainSession),
		Late: problem.New(part.Durable, error.Error), Tracer: tracing.New(c.TracerProvider), Limits: c.Durable.limits(), ConfirmDelay: c.Durable.ConfirmDelay,
	}
	b.problems = append(b.problems, b.core.Refused, b.published.Refused, b.feed.Problem, b.feed.Late)
	return b.assembleService()
}

func (b *Bridge) assembleService() (err error) {
	c := b.config
	b.service, err = service.New(c.Requests, service.Config{
		Name: "pgbridge", Version: c.Version, Description: "PostgreSQL on NATS",
		Tracer: tracing.New(c.TracerProvider), Metadata: b.metadata, ReplyPrefixes: c.ReplyPrefixes, StopGrace: c.StopGrace, Logger: c.Logger,
		Refuse: c.Refuse, Budget: budget.New(int64(c.RequestBytes), c.Share), Share: c.Share,
	})
	if err != nil {
		return err
	}
	b.notify = &notify.Notifier{}
	b.teller = &tell.Teller{Report: c.Report, Limit: func() int { return int(c.Requests.MaxPayload()) - replyReserve }}
	for _, e := range append(b.teller.Endpoints(c.Prefix), b.notify.Endpoint(c.Prefix)) {
		if err := b.service.Handle(e); err != nil {
			return err
		}
	}
	return nil
}

// replyReserve is room for a reply's subject and headers.
const replyReserve = 4 << 10

// metadata tells other replicas where this one is.
func (b *Bridge) metadata() map[string]string {
	m := map[string]string{control.MetadataPrefix: b.config.Prefix, control.MetadataPart: control.PartEvents}
	if database := b.control.Database(); database != "" {
		m[control.MetadataDatabase], m[control.MetadataServer] = database, b.control.Server()
	}
	return m
}

func (b *Bridge) problem(of part.Part, explain func(error) string) *problem.Problem {
	t := problem.New(of, explain)
	t.Assume("not connected yet")
	b.problems = append(b.problems, t)
	return t
}

func listenerName(application, replica string) string {
	return fmt.Sprintf("%.40s listener %s", application, replica)
}

// Run carries notifications until ctx ends; then it stops listening, publishes
// or announces what it has received, for StopGrace at most, and returns nil.
// It waits for servers that are away, for ever. It blocks, may be called once,
// and returns an error only when PostgreSQL refuses the credentials that never
// worked before or the NATS connection was closed.
func (b *Bridge) Run(ctx context.Context) error {
	pool, err := b.openPool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	b.notify.Pool, b.control.Relocated = pool, pool.Reset
	b.pool.Store(pool)
	group, ctx := errgroup.WithContext(ctx)
	finish, finished := wait.Grace(ctx, b.config.StopGrace)
	defer finished()
	hold, release := context.WithCancel(context.WithoutCancel(ctx)) // of the lock, until all is published
	defer release()

	group.Go(func() error {
		defer b.seq.Stop()
		return b.listener.Run(ctx)
	})
	group.Go(func() error {
		defer release()
		publishers, finish := errgroup.WithContext(finish)
		publishers.Go(func() error { return b.core.Run(finish) })
		publishers.Go(func() error { return b.published.Run(finish) })
		publishers.Go(func() error { return b.feed.Run(ctx) })
		return publishers.Wait()
	})
	group.Go(func() error { return b.control.Run(hold) })
	group.Go(func() error { return b.control.Follow(ctx) })
	group.Go(func() error { return b.control.WatchMarkers(ctx, b.listener.Paused) })
	group.Go(func() error { return b.service.Run(ctx) })
	group.Go(func() error { return failWhenClosed(ctx, b.config.Events, finished) })
	return group.Wait()
}

func (b *Bridge) openPool(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := b.settings.PoolConfig(notify.Connections)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.AfterConnect = postgres.SetModes
	return pgxpool.NewWithConfig(ctx, config)
}

// Reload replaces the channels on the live connection: new ones begin with a
// gap, removed ones end after what is queued. On error, which joins one
// *ConfigError for each fault, nothing changes.
func (b *Bridge) Reload(channels map[string]Channel) error {
	return b.setChannels(channels)
}

func (b *Bridge) setChannels(channels map[string]Channel) error {
	b.reload.Lock()
	defer b.reload.Unlock()
	routes, err := routesOf(channels, b.config.Prefix)
	if err == nil {
		err = b.config.mayCatchUp(channels)
	}
	if err != nil {
		return err
	}
	b.control.CatchesUp.Store(catchesUp(channels))
	notified, durables := split(routes)
	b.chosen.Store(&routes)
	b.stream.SetRoutes(routes)
	b.notify.SetChannels(notifiable(channels))
	b.teller.SetChannels(told(channels, routes))
	b.listener.SetRoutes(notified, b.metrics.of)
	b.feed.SetRoutes(durables)
	b.channels.Store(int64(len(channels)))
	return nil
}

// Problems says what keeps the bridge from being ready, a line each; empty
// means that both servers answer, the marker is back, this replica publishes or
// another does, the stream exists, the request subjects are subscribed, and what
// commits on any channel is received or kept.
func (b *Bridge) Problems() []string {
	problems, feeds := b.service.Problems(), false
	for _, t := range b.problems {
		if p := t.Current(); p != "" {
			problems = append(problems, p)
			feeds = feeds || t == b.feed.Problem
		}
	}
	if p := b.control.Late.Current(); p != "" {
		problems = append(problems, p)
	} else if !b.seq.Live() {
		problems = append(problems, part.Marker.Problem("has not come back yet"))
	}
	if p := b.control.Foreign.Current(); p != "" {
		problems = append(problems, p)
	} else if !b.publishes() && !b.control.AnotherHolds() {
		problems = append(problems, part.Lock.Problem("no replica holds it yet"))
	}
	if p := b.unkept(); p != "" && !feeds { // which says more
		problems = append(problems, p)
	}
	if n := b.seq.Unheard(); n > 0 {
		problems = append(problems, part.Listener.Problem(fmt.Sprintf("LISTEN is still to be done for %d channels", n)))
	}
	if b.seq.Learning(b.control.OffersAll()) {
		problems = append(problems, part.Lock.Problem("how far the publishing replica is has to be learned yet"))
	}
	if !b.config.Events.IsConnected() {
		problems = append(problems, part.Events.Problem(strings.ToLower(b.config.Events.Status().String())))
	}
	if b.config.Requests != b.config.Events && !b.config.Requests.IsConnected() {
		problems = append(problems, part.Requests.Problem(strings.ToLower(b.config.Requests.Status().String())))
	}
	return problems
}

// unkept is why an event of a durable channel would be lost that commits now, as far as
// that is for this replica to say; empty: it would not be.
func (b *Bridge) unkept() string {
	if !b.publishes() {
		return ""
	}
	if what := b.feed.Unkept(); what != "" {
		return part.Durable.Problem(what)
	}
	return ""
}

// publishes is true, too, while a marker that anybody may have sent makes the
// replica look again whether the lock is its own: that takes a moment.
func (b *Bridge) publishes() bool {
	return b.lease.Valid() || b.lease.Held() && b.seq.Active()
}
