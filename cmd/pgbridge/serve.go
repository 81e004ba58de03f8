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
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/internal/natsconn"
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
	s, err := newDaemon(cmd.sources(p), p.stderr)
	if err != nil {
		return err
	}
	return s.run(ctx)
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
	sources  sources
	config   *config
	log      *zap.Logger
	listener net.Listener // of the web server; nil: none
	embedded *server.Server
	events   *nats.Conn
	requests *nats.Conn
	bridge   *bridge.Bridge
	runner   *txrunner.Runner
	copier   *copier.Copier
	refused  chan error // NATS refused the credentials at the start
}

// newDaemon reads the configuration and binds all ports, so that a mistake
// ends the process before anything runs.
func newDaemon(src sources, stderr io.Writer) (_ *daemon, err error) {
	c, err := src.load()
	if err != nil {
		return nil, err
	}
	s := &daemon{sources: src, config: c, log: c.logger(stderr), refused: make(chan error, 1)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if c.HTTP != httpOff {
		if s.listener, err = net.Listen("tcp", c.HTTP); err != nil {
			return nil, fmt.Errorf("http: %w", err)
		}
	}
	if err := s.openNATS(); err != nil {
		return nil, err
	}
	if err := s.openBridge(); err != nil {
		return nil, err
	}
	return s, s.openRunner()
}

func (s *daemon) openBridge() (err error) {
	b := s.config.bridge()
	b.Events, b.Requests, b.Logger = s.events, s.requests, s.log
	b.Version = semanticVersion()
	if s.bridge, err = bridge.New(b); err != nil {
		return fmt.Errorf("prepare bridge: %w", err)
	}
	return nil
}

func (s *daemon) openRunner() (err error) {
	r := s.config.runner()
	r.Requests, r.Logger, r.Version = s.requests, s.log, semanticVersion()
	if s.copier, err = newCopier(s.requests, s.config.Prefix, s.log); err != nil {
		return err
	}
	r.Extensions = extensions(s.copier.Extension())
	s.runner, err = txrunner.New(r)
	var faulty *txrunner.ConfigError
	switch {
	case errors.As(err, &faulty): // a folder that is not there
		return &configError{[]fault{{s.config.originOf(faulty.Key), faulty.Key, faulty.Err}}}
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
		return &configError{[]fault{{key: "nats", err: err}}}
	}
	keep.Name = s.config.NATSName + " requests"
	s.requests, err = natsconn.Requests(s.config.NATS.WithCredentials(s.config.Requests), keep)
	if err != nil {
		return &configError{[]fault{{key: "nats.requests", err: err}}}
	}
	return nil
}

func startEmbedded(c *config, log *zap.Logger) (*server.Server, error) {
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
// announced, or until something fails.
func (s *daemon) run(ctx context.Context) error {
	defer s.close()
	s.limitMemory()
	s.log.Info("started", zap.String("version", ownVersion()), zap.Int("channels", len(s.config.Channels)))
	if len(s.config.Channels) == 0 && !s.config.runs() {
		s.log.Warn("no channels and no scripts are configured")
	}
	// Work ends with ctx; the web server goes on until work is done.
	serving, endServing := context.WithCancel(context.WithoutCancel(ctx))
	defer endServing()
	var web errgroup.Group
	work, workCtx := errgroup.WithContext(ctx)
	if s.listener != nil {
		web.Go(func() error { return newWeb(s).serve(serving, s.listener) })
	}
	work.Go(func() error { return s.bridge.Run(workCtx) })
	work.Go(func() error { return s.runner.Run(workCtx) })
	work.Go(func() error { return s.reloadOnChange(workCtx) })
	work.Go(func() error { return s.failWhenRefused(workCtx) })
	err := work.Wait()
	s.closeNATS()
	endServing()
	err = errors.Join(err, web.Wait())
	s.log.Info("stopped", zap.Error(err))
	return err
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
	if s.listener != nil {
		s.listener.Close()
	}
}

func (s *daemon) closeNATS() {
	for _, nc := range []*nats.Conn{s.requests, s.events} {
		if nc != nil {
			nc.Close()
		}
	}
	if s.embedded != nil {
		natsconn.Stop(s.embedded)
	}
}

// limitMemory makes the garbage collector work harder before a full queue
// doubles the heap. The embedded server's needs are not ours to bound.
func (s *daemon) limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" && s.embedded == nil {
		connections := s.config.Postgres.RunConnections + s.config.Postgres.PinnedConnections
		if s.config.TakeJobs {
			connections += s.config.Jobs.Concurrency
		}
		debug.SetMemoryLimit(64<<20 + 2*int64(s.config.QueueBytes) + int64(connections)*memoryPerConnection)
	}
}

// memoryPerConnection holds the request, the reply in the making and what the
// connection has prepared.
const memoryPerConnection = 4 << 20

// reloadOnChange reloads at each SIGHUP and each change of the file. A change
// of the scripts is seen by the runner itself.
func (s *daemon) reloadOnChange(ctx context.Context) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	r := newReloader(s.sources, s.config, s.bridge.Reload, s.log)
	r.rescan = s.runner.Reload
	return r.run(ctx, hangups, 2*time.Second)
}
