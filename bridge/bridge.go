package bridge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/service"
)

// notifyConnections is how many connections serve requests to notify.
const notifyConnections = 2

// Bridge carries notifications from one PostgreSQL database to NATS. Its
// methods are safe for concurrent use. It is a Prometheus collector.
type Bridge struct {
	config    Config
	settings  *postgres.Settings
	metrics   *metrics
	lease     *lease
	seq       *sequencer
	control   *control
	listener  *listener
	stream    *eventStream
	core      *corePublisher
	published *streamPublisher
	notify    *notifier
	service   *service.Service
	troubles  []*trouble

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
	b := &Bridge{config: config, settings: settings, metrics: newMetrics(), lease: newLease()}
	if err := b.assemble(); err != nil {
		return nil, err
	}
	return b, b.setChannels(config.Channels)
}

// assemble makes the parts and connects them, as the package's picture shows.
func (b *Bridge) assemble() error {
	c := b.config
	replica := randomHex(4)
	wanted := make(chan struct{}, 1)
	b.seq = &sequencer{
		replica: replica, marker: markerChannel(c.Prefix), lease: b.lease, now: time.Now,
		core: newQueue(c.QueueBytes), stream: newQueue(c.QueueBytes),
		wantMarker: func() { signal(wanted) },
	}
	b.control = &control{
		settings: b.settings, events: c.Events, seq: b.seq, lease: b.lease, log: c.Logger, wanted: wanted,
		channel: markerChannel(c.Prefix), key: lockKey(c.Prefix), listener: listenerName(c.ApplicationName, replica),
		trouble: b.trouble("control session", explainControl), late: newTrouble("marker", error.Error),
	}
	b.listener = &listener{
		settings: b.settings, application: listenerName(c.ApplicationName, replica), seq: b.seq, log: c.Logger,
		queueUsage: b.control.queueUsage, pauseLimit: pauseAtMost, marker: markerChannel(c.Prefix), changed: make(chan struct{}, 1),
		trouble: b.trouble("listener", explainPostgres),
	}
	js, err := jetstream.New(c.Events)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	b.stream = &eventStream{js: js, config: c.Stream}
	b.core = &corePublisher{
		nc: c.Events, queue: b.seq.core, seq: b.seq, lease: b.lease, log: c.Logger,
		encoder: newEncoder(c.Prefix, b.settings.Database()), latency: b.metrics.observer(DeliveryCore),
		refused: newTrouble("publish", error.Error),
	}
	b.published = &streamPublisher{
		nc: c.Events, stream: b.stream, queue: b.seq.stream, seq: b.seq, lease: b.lease, log: c.Logger,
		encoder: newEncoder(c.Prefix, b.settings.Database()), latency: b.metrics.observer(DeliveryJetStream),
		trouble: b.trouble("stream", error.Error),
	}
	b.troubles = append(b.troubles, b.core.refused)
	return b.assembleService()
}

func (b *Bridge) assembleService() (err error) {
	c := b.config
	b.service, err = service.New(c.Requests, service.Config{
		Name: "pgbridge", Version: c.Version, Description: "PostgreSQL on NATS",
		ReplyPrefixes: c.ReplyPrefixes, StopGrace: c.StopGrace, Logger: c.Logger,
	})
	if err != nil {
		return err
	}
	b.notify = &notifier{}
	return b.service.Handle(b.notify.endpoint(c.Prefix))
}

func (b *Bridge) trouble(part string, explain func(error) string) *trouble {
	t := newTrouble(part, explain)
	t.text = "not connected yet"
	b.troubles = append(b.troubles, t)
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
	b.notify.pool = pool
	group, ctx := errgroup.WithContext(ctx)
	finish, finished := afterGrace(ctx, b.config.StopGrace)
	defer finished()
	hold, release := context.WithCancel(context.WithoutCancel(ctx)) // of the lock, until all is published
	defer release()

	group.Go(func() error {
		defer b.seq.stop()
		return b.listener.run(ctx)
	})
	group.Go(func() error {
		defer release()
		publishers, finish := errgroup.WithContext(finish)
		publishers.Go(func() error { return b.core.run(finish) })
		publishers.Go(func() error { return b.published.run(finish) })
		return publishers.Wait()
	})
	group.Go(func() error { return b.control.run(hold) })
	group.Go(func() error { return b.control.watchMarkers(ctx, b.listener.pauses.Load) })
	group.Go(func() error { return b.service.Run(ctx) })
	return group.Wait()
}

func (b *Bridge) openPool(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := b.settings.PoolConfig(notifyConnections)
	if err != nil {
		return nil, err
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// afterGrace returns a context that ends grace after ctx.
func afterGrace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		sleep(later, grace, nil)
		cancel()
	})
	return later, func() { stop(); cancel() }
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
	routes := make(map[string]*route, len(channels))
	var f faults
	for name, c := range channels {
		r, err := newRoute(name, c, b.config.Prefix)
		if err != nil {
			f = append(f, err)
			continue
		}
		routes[name] = r
	}
	if len(f) > 0 {
		return joinFaults(f)
	}
	b.stream.setRoutes(routes)
	b.notify.setRoutes(routes)
	b.listener.setRoutes(routes, b.metrics.of)
	return nil
}

// Problems says what keeps the bridge from being ready, a line each; empty
// means that both servers answer, the marker is back, this replica publishes or
// another does, the stream exists and the request subjects are subscribed.
func (b *Bridge) Problems() []string {
	problems := b.service.Problems()
	for _, t := range b.troubles {
		if p := t.problem(); p != "" {
			problems = append(problems, p)
		}
	}
	if p := b.control.late.problem(); p != "" {
		problems = append(problems, p)
	} else if !b.seq.live() {
		problems = append(problems, "marker: has not come back yet")
	}
	if !b.lease.valid() && !b.control.rivaled() {
		problems = append(problems, "publishing lock: no replica holds it yet")
	}
	if !b.config.Events.IsConnected() {
		problems = append(problems, "NATS, events: "+strings.ToLower(b.config.Events.Status().String()))
	}
	if b.config.Requests != b.config.Events && !b.config.Requests.IsConnected() {
		problems = append(problems, "NATS, requests: "+strings.ToLower(b.config.Requests.Status().String()))
	}
	return problems
}

// Status is a snapshot for people.
type Status struct {
	Replica    string             `json:"replica"`     // random, new at each start
	State      string             `json:"state"`       // publishing, standby or orphan
	Channels   int                `json:"channels"`    // listened to
	QueueBytes map[Delivery]int64 `json:"queue_bytes"` // waiting for NATS
}

// Status returns a snapshot.
func (b *Bridge) Status() Status {
	state := "standby"
	switch {
	case b.lease.valid():
		state = "publishing"
	case b.seq.active():
		state = "orphan"
	}
	return Status{
		Replica: b.seq.replica, State: state, Channels: len(b.listener.wantedChannels()) - 1,
		QueueBytes: map[Delivery]int64{DeliveryCore: b.seq.core.bytes.Load(), DeliveryJetStream: b.seq.stream.bytes.Load()},
	}
}
