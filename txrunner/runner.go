package txrunner

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	// maxBufferBytes is the largest reply whose memory is used again.
	maxBufferBytes = 256 << 10
	settlePause    = time.Second
	purgePause     = 10 * time.Minute
)

// Runner serves scripts and transactions of one database. Its methods are safe
// for concurrent use. It is a Prometheus collector.
type Runner struct {
	config      Config
	settings    *postgres.Settings
	sqlSettings *postgres.Settings // nil: the same
	scripts     *scripts
	service     *service.Service
	verbs       []verb
	metrics     *metrics
	gauges      gauges
	pins        *pins
	jobs        *jobs          // nil: none are taken
	buffers     sync.Pool      // *[]byte
	background  sync.WaitGroup // connections being cleaned

	database atomic.Pointer[string] // its identity; nil: not known yet

	// Made by Run. Until then there are none.
	opened atomic.Bool
	runs   *connections
	pinned *connections
	sql    *connections // nil: runs are
	work   *connections // for jobs, so that requests need not wait for them; nil: there are none
}

// New validates the configuration, reads the scripts and returns a Runner that
// Run starts. It connects to nothing. Its error joins one *ConfigError for each
// fault. A faulty script is none: see [Runner.ScriptFaults].
func New(config Config) (*Runner, error) {
	config = config.withDefaults()
	var f faults
	if config.Requests == nil {
		f.add("nats", "no connection")
	}
	r := &Runner{config: config, metrics: newMetrics(), gauges: newGauges()}
	r.buffers.New = func() any { return new([]byte) }
	r.parseSettings(&f)
	if err := errors.Join(append(f, config.Validate())...); err != nil {
		return nil, err
	}
	r.scripts = &scripts{folder: config.Scripts, maxTimeout: config.MaxTimeout, log: config.Logger}
	var faulty script.Errors
	if err := r.scripts.load(); err != nil && !errors.As(err, new(*script.Error)) && !errors.As(err, &faulty) {
		return nil, &ConfigError{Key: "scripts", Err: err}
	}
	return r, r.assemble()
}

func (r *Runner) parseSettings(f *faults) {
	parse := func(key, connString, passwordFile string) *postgres.Settings {
		settings, err := postgres.Parse(connString, postgres.Options{PasswordFile: passwordFile, ApplicationName: r.config.ApplicationName})
		if err != nil {
			f.add(key, "%w", err)
		}
		return settings
	}
	r.settings = parse("postgres.url", r.config.ConnString, r.config.PasswordFile)
	if own := r.config.SQL; own != nil && own.ConnString != "" {
		r.sqlSettings = parse("sql.url", own.ConnString, own.PasswordFile)
	}
}

func (r *Runner) assemble() (err error) {
	r.service, err = service.New(r.config.Requests, service.Config{
		Name: serviceName, Version: r.config.Version, Description: "PostgreSQL scripts and transactions on NATS",
		Metadata: r.metadata, ReplyPrefixes: r.config.ReplyPrefixes, StopGrace: r.config.StopGrace, Logger: r.config.Logger,
	})
	if err != nil {
		return err
	}
	r.pins = newPins(r, strings.ToLower(rand.Text()[:10]))
	r.verbs = r.allVerbs()
	if r.jobs, err = newJobs(r); err != nil {
		return err
	}
	return r.register()
}

func (r *Runner) metadata() map[string]string {
	m := map[string]string{metadataPrefix: r.config.Prefix}
	if database := r.database.Load(); database != nil {
		m[metadataDatabase] = *database
	}
	return m
}

// Run serves until ctx ends. Then it takes no more requests, waits for those it
// has, for StopGrace at most, rolls the pinned transactions back and returns
// nil. It waits for servers that are away, for ever. It blocks and may be
// called once. It returns an error when PostgreSQL refuses the credentials, a
// stream captures the requests, another database is served under the prefix,
// or the NATS connection was closed.
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
	group.Go(func() error { return r.stopPins(ctx) })
	group.Go(func() error { return r.jobs.run(ctx) })
	group.Go(func() error { return r.scripts.watch(ctx, r.config.ScriptsPoll) })
	group.Go(func() error { return r.runs.watch(ctx) })
	group.Go(func() error { return r.purgeIDs(ctx) })
	group.Go(func() error { return r.logFaults(ctx) })
	r.config.Logger.Info("requests are served", zap.String("subject", r.config.Prefix+".>"), zap.String("replica", r.pins.replica))
	err := group.Wait()
	r.background.Wait()
	return err
}

func (r *Runner) openPools(ctx context.Context) (err error) {
	defer r.opened.Store(true)
	c := r.config
	if r.runs, err = openConnections(ctx, "run", r.settings, c.RunConnections, c.MaxTimeout, c.MaxTimeout); err != nil {
		return err
	}
	if r.pinned, err = openConnections(ctx, "pinned", r.settings, c.PinnedConnections, c.Lifetime, c.IdleTimeout); err != nil {
		return err
	}
	if r.sqlSettings != nil {
		if r.sql, err = openConnections(ctx, "sql", r.sqlSettings, c.SQL.Connections, c.MaxTimeout, c.MaxTimeout); err != nil {
			return err
		}
	}
	if c.Jobs != nil {
		r.work, err = openConnections(ctx, "jobs", r.settings, c.Jobs.Concurrency, c.MaxTimeout, c.MaxTimeout)
	}
	return err
}

func (r *Runner) closePools() {
	for _, c := range r.pools() {
		c.pool.Close()
	}
}

// pools lists the pools that are open.
func (r *Runner) pools() []*connections {
	if !r.opened.Load() {
		return nil
	}
	all := []*connections{r.runs, r.pinned, r.sql, r.work}
	return slices.DeleteFunc(all, func(c *connections) bool { return c == nil })
}

// connectionsFor returns the connections that a program runs on.
func (r *Runner) connectionsFor(p *program) *connections {
	if p.adhoc && r.sql != nil {
		return r.sql
	}
	return r.runs
}

// settle waits for both servers and looks whether serving is safe. It reports
// false when it is not, or ctx has ended.
func (r *Runner) settle(ctx context.Context) (bool, error) {
	for ctx.Err() == nil {
		database, err := r.identify(ctx)
		if postgres.Refused(err) {
			return false, err
		}
		if err == nil && r.config.Requests.IsConnected() {
			r.database.Store(&database)
			if err := errors.Join(r.config.Captured(ctx), r.contested(ctx, database)); err != nil {
				return false, fmt.Errorf("serve %s: %w", r.config.Prefix, err)
			}
			return true, nil
		}
		if err != nil {
			r.config.Logger.Debug("waiting for PostgreSQL", zap.Error(err))
		}
		sleep(ctx, settlePause)
	}
	return false, nil
}

// stopPins ends the pinned transactions when ctx has ended.
func (r *Runner) stopPins(ctx context.Context) error {
	<-ctx.Done()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.config.StopGrace)
	defer cancel()
	r.pins.stop(grace)
	return nil
}

// logFaults has PostgreSQL look at all scripts, once.
func (r *Runner) logFaults(ctx context.Context) error {
	for _, fault := range r.checkPrepared(ctx) {
		if ctx.Err() == nil {
			r.config.Logger.Warn("a script is faulty", zap.Error(fault))
		}
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
	problems := r.service.Problems()
	for _, c := range r.pools() {
		if p := c.problem.Load(); p != nil && c == r.runs {
			problems = append(problems, "PostgreSQL, requests: "+*p)
		}
	}
	if !r.config.Requests.IsConnected() {
		problems = append(problems, "NATS, requests: "+strings.ToLower(r.config.Requests.Status().String()))
	}
	problems = append(problems, r.jobs.problems()...)
	return append(problems, r.scripts.missing()...)
}

// replyLimit is how long a reply's body may be.
func (r *Runner) replyLimit() int { return int(r.config.Requests.MaxPayload()) - replyReserve }
