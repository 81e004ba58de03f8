package txrunner

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/tracing"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// New validates the configuration, reads the scripts and returns a Runner that
// Run starts. It connects to nothing. Its error joins one *ConfigError for each
// fault. A faulty script is none: see [Runner.ScriptFaults].
func New(config Config) (*Runner, error) {
	config = config.withDefaults()
	var f faults
	if config.Requests == nil {
		f.add("nats", "no connection")
	}
	r := &Runner{
		config: config, extensions: extensionsOf(config), metrics: newMetrics(), gauges: newGauges(),
		memory: budget.New(int64(config.RequestBytes), config.Share),
	}
	r.apart = problem.New(part.Others, error.Error)
	r.captures.Look, r.captures.Log = config.captured, config.Logger
	r.buffers.New = func() any { return new([]byte) }
	r.parseSettings(&f)
	if err := errors.Join(append(f, config.Validate())...); err != nil {
		return nil, err
	}
	r.home = session.NewHome(r.settings)
	if r.sqlSettings != nil {
		r.sqlHome = session.NewHome(r.sqlSettings)
	}
	r.nameTraces()
	r.scripts = newScripts(config.Scripts, config.MaxTimeout, config.Logger)
	r.scripts.loaded = r.metrics.loaded
	var faulty script.Errors
	if err := r.scripts.load(); err != nil && !errors.As(err, new(*script.Error)) && !errors.As(err, &faulty) {
		return nil, &ConfigError{Key: "scripts", Err: err}
	}
	return r, r.assemble()
}

// nameTraces has PostgreSQL show whose trace a transaction is in, where that is wanted.
func (r *Runner) nameTraces() {
	for _, home := range []*session.Home{r.home, r.sqlHome} {
		if home != nil && r.config.TraceName {
			home.NameTraces()
		}
	}
}

func (r *Runner) assemble() (err error) {
	r.service, err = service.New(r.config.Requests, service.Config{
		Name: serviceName, Version: r.config.Version, Description: "PostgreSQL scripts and transactions on NATS",
		Tracer: tracing.New(r.config.TracerProvider), Lasting: r.config.Transactions, Metadata: r.metadata, ReplyPrefixes: r.config.ReplyPrefixes, StopGrace: r.config.StopGrace, Logger: r.config.Logger,
		Refuse: r.Refused, Budget: r.memory, Share: r.config.Share, MaxBodyBytes: r.config.MaxBodyBytes,
		Answered: r.answered,
	})
	if err != nil {
		return err
	}
	r.verbs = r.allVerbs()
	r.transactions = pinned.New(pinned.Config{
		Prefix: r.config.Prefix, Replica: strings.ToLower(rand.Text()[:10]),
		Lifetime: r.config.Lifetime, MaxTimeout: r.config.MaxTimeout, ReplyLimit: r.replyLimit,
		Ended: r.ended, Begun: r.metrics.begun, Expired: r.metrics.expired, Replays: r.metrics.replays,
	}, r.pinnedVerbs())
	if r.jobs, err = r.newJobs(); err != nil {
		return err
	}
	return r.register()
}

func (r *Runner) metadata() map[string]string {
	m := map[string]string{metadataPrefix: r.config.Prefix, metadataProtocol: api.Protocol}
	if here := r.home.Place(); here.Database != "" {
		m[metadataDatabase], m[metadataServer] = here.Database, here.Server()
	}
	return m
}

// Run serves until ctx ends. Then it takes no more requests, waits for those it
// has, for StopGrace at most, rolls the pinned transactions back and returns
// nil. It waits for servers that are away, for ever, and while another replica
// serves the prefix from another server than the one that ConnString leads to. It
// blocks and may be called once. It returns an error when PostgreSQL refuses the
// credentials, a stream captures the requests, or the NATS connection was closed.
func (r *Runner) Run(ctx context.Context) error {
	defer r.closePools()
	if err := r.openPools(ctx); err != nil {
		return err
	}
	if ready, err := r.settle(ctx); !ready {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.service.Run(ctx) })
	group.Go(func() error { return r.captures.Run(ctx) })
	group.Go(func() error { return r.follow(ctx) })
	group.Go(func() error { return r.stopTransactions(ctx) })
	group.Go(func() error { return r.jobs.Run(ctx) })
	group.Go(func() error { return r.scripts.watch(ctx, r.config.ScriptsPoll) })
	group.Go(func() error { return r.runs.Watch(ctx) })
	group.Go(func() error { return r.purgeIDs(ctx) })
	group.Go(func() error { return r.logFaults(ctx) })
	r.config.Logger.Info("serving requests", zap.String("subject", r.config.Prefix+".>"), zap.String("replica", r.transactions.Replica()))
	return group.Wait()
}

func (r *Runner) openPools(ctx context.Context) (err error) {
	defer func() {
		r.opened.Store(true)
		for _, p := range r.pools() {
			r.metrics.observe(p)
		}
	}()
	c := r.config
	limits := session.Limits{Statement: c.MaxTimeout, Idle: c.MaxTimeout}
	if r.runs, err = session.Open(ctx, "run", r.home, c.RunConnections, c.Share, limits, r.memory); err != nil {
		return err
	}
	if r.pinned, err = session.Open(ctx, "pinned", r.home, c.PinnedConnections, c.Share, session.Limits{Statement: c.Lifetime, Idle: c.IdleTimeout}, r.memory); err != nil {
		return err
	}
	if r.sqlSettings != nil {
		if r.sql, err = session.Open(ctx, "sql", r.sqlHome, c.SQL.Connections, c.Share, limits, r.memory); err != nil {
			return err
		}
	}
	if c.Jobs != nil {
		r.work, err = session.Open(ctx, "jobs", r.home, c.Jobs.Concurrency, 1, limits, r.memory)
	}
	return err
}

func (r *Runner) closePools() {
	r.stopped.Store(true)
	for _, p := range r.pools() {
		p.Close()
	}
}

// stopTransactions ends the pinned transactions when ctx has ended.
func (r *Runner) stopTransactions(ctx context.Context) error {
	grace, cancel := wait.Grace(ctx, r.config.StopGrace)
	defer cancel()
	<-ctx.Done()
	r.transactions.Stop(grace)
	return nil
}

// logFaults has PostgreSQL look at all scripts, and at those that change.
func (r *Runner) logFaults(ctx context.Context) error {
	known := map[*execution.Program]bool{}
	for ctx.Err() == nil {
		now := map[*execution.Program]bool{}
		for _, p := range *r.scripts.programs.Load() {
			now[p] = known[p]
		}
		known = now
		err := r.checkPrepared(ctx, func(p *execution.Program, c Checked) {
			if known[p] = true; c.Fault != nil {
				r.config.Logger.Warn("a script is faulty", zap.Error(c.Fault))
			}
		}, known)
		if err == nil {
			select {
			case <-r.scripts.changed:
			case <-ctx.Done():
			}
			continue
		}
		r.config.Logger.Debug("the scripts were not looked at", zap.Error(err))
		wait.ForOr(ctx, lookAgain, r.scripts.changed)
	}
	return nil
}

// Reload reads the scripts folder at once. A faulty file keeps the form it had;
// the error joins all faults. Run does the same when the folder changes.
func (r *Runner) Reload() error { return r.scripts.load() }

// ScriptFaults returns the faults of the scripts folder, each with its file and
// place, as the last look at it found them.
func (r *Runner) ScriptFaults() []error { return r.scripts.known() }

// Problems says what keeps the runner from being ready, a line each: a server
// that is away, a subject that is not subscribed, a script that has never been
// good.
func (r *Runner) Problems() []string {
	problems := append(r.service.Problems(), r.captureProblems()...)
	if p := r.apart.Current(); p != "" {
		problems = append(problems, p)
	}
	if r.opened.Load() && r.runs != nil && r.runs.Problem() != "" {
		problems = append(problems, part.Runs.Problem(r.runs.Problem()))
	}
	if !r.config.Requests.IsConnected() {
		problems = append(problems, part.Requests.Problem(strings.ToLower(r.config.Requests.Status().String())))
	}
	if own := r.config.Transactions; own != r.config.Requests && !own.IsConnected() {
		problems = append(problems, part.Transactions.Problem(strings.ToLower(own.Status().String())))
	}
	problems = append(problems, r.jobs.Problems()...)
	return append(problems, r.scripts.missing()...)
}

// requests tells the service's metrics from those of another service in the
// same process.
func (r *Runner) requests() prometheus.Collector {
	return prometheus.WrapCollectorWith(prometheus.Labels{"part": "txrunner"}, r.service)
}

// Describe implements prometheus.Collector.
func (r *Runner) Describe(descs chan<- *prometheus.Desc) {
	r.requests().Describe(descs)
	r.jobs.Describe(descs)
	for _, c := range r.collectors() {
		c.Describe(descs)
	}
	for _, d := range r.gauges.all() {
		descs <- d
	}
}

// collectors are the runner's own and its extensions'.
func (r *Runner) collectors() []prometheus.Collector {
	all := r.metrics.collectors()
	for _, e := range r.extensions {
		if e.Metrics != nil {
			all = append(all, e.Metrics)
		}
	}
	return all
}

// Collect implements prometheus.Collector.
func (r *Runner) Collect(values chan<- prometheus.Metric) {
	r.requests().Collect(values)
	r.jobs.Collect(values)
	for _, c := range r.collectors() {
		c.Collect(values)
	}
	r.metrics.scripts.collect(values, r.gauges.runs, r.gauges.took)
	r.collectGauges(values)
}

func (r *Runner) collectGauges(values chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		values <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	open, oldest := r.transactions.Open()
	gauge(r.gauges.transactions, float64(open))
	gauge(r.gauges.oldest, oldest.Seconds())
	gauge(r.gauges.scripts, float64(len(*r.scripts.programs.Load())))
	gauge(r.gauges.scriptFaults, float64(len(r.scripts.known())))
	gauge(r.gauges.memory, float64(r.memory.Used()))
	gauge(r.gauges.memoryLimit, float64(r.memory.Limit()))
	for _, p := range r.pools() {
		s := p.Stat()
		gauge(r.gauges.connections, float64(s.Used), p.Name(), "used")
		gauge(r.gauges.connections, float64(s.Idle), p.Name(), "idle")
		gauge(r.gauges.most, float64(s.Most), p.Name())
		gauge(r.gauges.waiting, float64(s.Waiting), p.Name())
	}
}
