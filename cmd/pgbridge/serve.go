package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/logging"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/state"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/telemetry"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/vitals"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/web"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/webconsole"
	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/processors"
	"github.com/pgbridge/pgbridge/txrunner"
)

type serveCmd struct {
	configFlags
}

// Help shows examples.
func (serveCmd) Help() string {
	return `Both servers may be away at the start: they are waited for. SIGHUP or a
changed file reloads the channels and the scripts; any other change needs a
restart.

Examples:

    pgbridge serve -c pgbridge.yaml
    pgbridge serve --postgres postgres://app@localhost/app --channel orders
    pgbridge serve -c pgbridge.yaml --set nats.embedded=true --set log.level=debug
    PGBRIDGE_NATS_URL=nats://nats:4222 pgbridge serve -c pgbridge.yaml`
}

// Run serves until a signal.
func (cmd serveCmd) Run(ctx context.Context, p *process) error {
	hangups := make(chan os.Signal, 1) // before anything else: without a reader one would end the process
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	s, err := newDaemon(cmd.sources(p), p.stderr)
	if err != nil {
		return err
	}
	return s.run(ctx, hangups)
}

// daemon is everything that runs, in the order of opening:
//
//	signal, file ─► reloader ──channels──► bridge ──► events ───┐
//	                    │                   ▲  ▲                ├─► NATS server, or
//	                    │       PostgreSQL ─┤  ├───── requests ─┘   the embedded one
//	                    │                   ▼  ▼
//	                    └──scripts───────► runner
//	   scrapers, probes ─► web
//	                        healthz, readyz, metrics of both
//
// It closes in the opposite order, but for web, which answers to the end.
type daemon struct {
	sources  config.Sources
	config   *config.Config
	state    state.Source
	log      *zap.Logger
	listener net.Listener // of the web server; nil: none
	embedded *server.Server
	events   *nats.Conn
	requests *nats.Conn
	pinned   *nats.Conn // for transactions and all that goes on
	bridge   *bridge.Bridge
	runner   *txrunner.Runner
	copier   *copier.Copier
	vitals   *vitals.Vitals
	console  *webconsole.Console  // nil: it is not shown
	spans    *telemetry.Telemetry // nil: none are made
	refused  chan error           // NATS refused the credentials at the start
}

// newDaemon reads the configuration and binds all ports, so that a mistake
// ends the process before anything runs.
func newDaemon(src config.Sources, stderr io.Writer) (_ *daemon, err error) {
	c, err := src.Load()
	if err != nil {
		return nil, err
	}
	s := &daemon{sources: src, config: c, log: logging.New(stderr, c.Log.Form, c.Log.Level), refused: make(chan error, 3)}
	s.state = state.Of(ownVersion(), func() *bridge.Bridge { return s.bridge }, func() *txrunner.Runner { return s.runner })
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if c.HTTP != config.HTTPOff {
		if s.listener, err = net.Listen("tcp", c.HTTP); err != nil {
			return nil, fmt.Errorf("http: %w", err)
		}
	}
	if s.spans, err = telemetry.New(src.Environ, ownVersion(), s.log); err != nil {
		return nil, &config.Error{Faults: []config.Fault{{Key: "environment", Err: err}}}
	}
	if err := s.openNATS(); err != nil {
		return nil, err
	}
	if err := s.openBridge(); err != nil {
		return nil, err
	}
	if err := s.openRunner(); err != nil {
		return nil, err
	}
	s.vitals = vitals.New(vitals.Sources{
		Version: ownVersion(), Problems: s.state.AllProblems, Events: s.events, Requests: s.requests, Transactions: s.pinned,
	})
	s.openConsole()
	return s, nil
}

func (s *daemon) openBridge() (err error) {
	b := s.config.Bridge()
	b.Events, b.Requests, b.Logger = s.events, s.requests, s.log
	if s.config.Scripts != "" {
		b.CatchUp = s.catchUp
	}
	b.Version, b.TracerProvider = semanticVersion(), s.spans.Provider()
	b.Report = s.state.Report                             // nobody asks before the runner runs
	b.Refuse = func() error { return s.runner.Refused() } // nobody asks before the runner runs
	if b.JetStream, err = s.config.NATS.JetStream(s.events); err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	if s.bridge, err = bridge.New(b); err != nil {
		return fmt.Errorf("prepare bridge: %w", err)
	}
	return nil
}

// catchUp has the runner read what a channel missed. Nothing is missed before it is there.
func (s *daemon) catchUp(ctx context.Context, w bridge.Window, row func(context.Context, []byte) error) error {
	return s.runner.CatchUp(ctx, w.Script, w.Since, w.Until, row)
}

func (s *daemon) openRunner() (err error) {
	r := s.config.Runner()
	r.Requests, r.Transactions, r.Logger, r.Version = s.requests, s.pinned, s.log, semanticVersion()
	r.TracerProvider = s.spans.Provider()
	if r.JetStream, err = s.config.NATS.JetStream(s.pinned); err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	s.copier, err = newCopier(copier.Config{Requests: s.pinned, JetStream: r.JetStream, Prefix: s.config.Prefix, Logger: s.log})
	if err != nil {
		return err
	}
	r.Extensions = extensions(s.copier.Extension())
	s.runner, err = txrunner.New(r)
	var faulty *txrunner.ConfigError
	switch {
	case errors.As(err, &faulty): // a folder that is not there
		return &config.Error{Faults: []config.Fault{{Origin: s.config.OriginOf(faulty.Key), Key: faulty.Key, Err: faulty.Err}}}
	case err != nil:
		return fmt.Errorf("prepare runner: %w", err)
	}
	return nil
}

func (s *daemon) openNATS() (err error) {
	keep := natsconn.Keeper{Logger: s.log, Refused: func(err error) { s.refused <- err }}
	if s.config.Embedded {
		if s.embedded, err = startEmbedded(s.config, s.log); err != nil {
			return err
		}
		keep.InProcess = s.embedded
	}
	keep.Name = s.config.NATSName + " events"
	if s.events, err = natsconn.Events(s.config.NATS, keep); err != nil {
		return &config.Error{Faults: []config.Fault{{Key: "nats", Err: err}}}
	}
	keep.Name = s.config.NATSName
	s.requests, s.pinned, err = natsconn.RequestPair(s.config.NATS.WithCredentials(s.config.Requests), keep)
	if err != nil {
		return &config.Error{Faults: []config.Fault{{Key: "nats.requests", Err: err}}}
	}
	return nil
}

func startEmbedded(c *config.Config, log *zap.Logger) (*server.Server, error) {
	e, err := natsconn.EmbeddedAt(c.NATS.URLs)
	if err != nil {
		return nil, err
	}
	e.Name, e.StoreDir, e.Logger = c.NATSName, c.StoreDir, log
	e.User, e.Password, e.Token = c.NATS.User, c.NATS.Password, c.NATS.Token
	s, err := e.Start()
	if err != nil {
		return nil, err
	}
	log.Info("embedded NATS server listens", zap.String("url", s.ClientURL()))
	return s, nil
}

// run blocks until ctx ends and everything received is published or
// announced, or until something fails. A hangup, also one from before, has the
// configuration read again.
func (s *daemon) run(ctx context.Context, hangups <-chan os.Signal) error {
	defer s.close()
	s.limitMemory()
	s.log.Info("started", zap.String("version", ownVersion()), zap.Int("channels", len(s.config.Channels)))
	if len(s.config.Channels) == 0 && !s.config.Runs() {
		s.log.Warn("no channels and no scripts are configured")
	}
	// Work ends with ctx; the web server goes on until work is done.
	serving, endServing := context.WithCancel(context.WithoutCancel(ctx))
	defer endServing()
	var answering errgroup.Group
	work, workCtx := errgroup.WithContext(ctx)
	if s.listener != nil {
		answering.Go(func() error { return web.Serve(serving, s.listener, s.told()) })
		if s.console != nil {
			answering.Go(func() error { return s.console.Run(serving) })
		}
	}
	answering.Go(func() error { return processors.Govern(serving) })
	work.Go(func() error { return s.bridge.Run(workCtx) })
	work.Go(func() error { return s.runner.Run(workCtx) })
	work.Go(func() error { return s.reloadOnChange(workCtx, hangups) })
	work.Go(func() error { return s.failWhenRefused(workCtx) })
	err := work.Wait()
	s.closeNATS()
	endServing()
	err = errors.Join(err, answering.Wait())
	s.log.Info("stopped", zap.Error(err))
	return err
}

// told is what probes and scrapers are told.
func (s *daemon) told() web.Config {
	c := web.Config{
		Problems: s.state.AllProblems, Status: s.bridge.Status,
		Metrics: []prometheus.Collector{s.bridge, s.runner, s.copier, s.vitals}, Pprof: s.config.Pprof, Logger: s.log,
	}
	if s.console != nil {
		c.More = s.console.Register
	}
	return c
}

// openConsole makes the page for operators, where it is wanted.
func (s *daemon) openConsole() {
	c := s.config.Console
	if !c.Shown {
		return
	}
	s.console = webconsole.New(webconsole.Config{
		Bridge: s.bridge, Runner: s.runner, Problems: s.state.AllProblems, Requests: s.requests, Watch: s.watch,
		Prefix: s.config.Prefix, Version: ownVersion(), Payloads: c.Payloads, Hosts: c.Hosts, Logger: s.log,
	})
}

// watch opens a connection for somebody who watches events in the console.
func (s *daemon) watch() (*nats.Conn, error) {
	options := []nats.Option{nats.NoReconnect(), nats.PermissionErrOnSubscribe(true)}
	if s.embedded != nil {
		options = append(options, nats.InProcessServer(s.embedded))
	}
	return natsconn.Once(s.config.NATS.WithCredentials(s.config.Requests), s.config.NATSName+" console", options...)
}

func (s *daemon) failWhenRefused(ctx context.Context) error {
	select {
	case err := <-s.refused:
		return err
	case <-ctx.Done():
		return nil
	}
}

// close releases what is open; closing twice is harmless.
func (s *daemon) close() {
	s.closeNATS()
	s.spans.Stop(s.log)
	if s.listener != nil {
		s.listener.Close()
	}
}

func (s *daemon) closeNATS() {
	for _, nc := range []*nats.Conn{s.pinned, s.requests, s.events} {
		if nc != nil {
			nc.Close()
		}
	}
	if s.embedded != nil {
		natsconn.Stop(s.embedded)
	}
}

// limitMemory makes the garbage collector work harder before full queues and
// requests double the heap. The embedded server's needs are not ours to bound.
func (s *daemon) limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" && s.embedded == nil {
		debug.SetMemoryLimit(baseMemory + 2*int64(s.config.QueueBytes) + int64(s.config.ForRequests.Bytes)*3/2)
	}
}

// baseMemory is for the program itself and for what connections have prepared.
const baseMemory = 48 << 20

// reloadOnChange reloads at each SIGHUP and each change of the file. A change
// of the scripts is seen by the runner itself.
func (s *daemon) reloadOnChange(ctx context.Context, hangups <-chan os.Signal) error {
	r := config.NewReloader(s.sources, s.config, s.bridge.Reload, s.runner.Reload, s.log)
	r.Reloaded = s.vitals.Reloaded
	return r.Run(ctx, hangups, 2*time.Second)
}
