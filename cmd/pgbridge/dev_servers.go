package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/state"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/web"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/webconsole"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/txrunner"
)

// startDevNATS takes the usual port, or a free one where it is taken. onClose is
// given what stops it and removes its files.
func startDevNATS(onClose func(func() error)) (*server.Server, error) {
	dir, err := os.MkdirTemp("", "pgbridge-dev-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for NATS: %w", err)
	}
	onClose(func() error { return os.RemoveAll(dir) })
	e := natsconn.Embedded{Host: "127.0.0.1", Port: server.DEFAULT_PORT, Name: "pgbridge-dev", StoreDir: dir}
	s, err := e.Start()
	if err != nil {
		e.Port = 0
		s, err = e.Start()
	}
	if err == nil {
		onClose(func() error { natsconn.Stop(s); return nil })
	}
	return s, err
}

// devConsole is the page of the console, with payloads, for whoever is at this
// machine.
type devConsole struct {
	listener net.Listener
	console  *webconsole.Console
	web      web.Config
}

// newDevConsole takes the usual port, or a free one where it is taken. runner may be
// nil.
func newDevConsole(b *bridge.Bridge, runner *txrunner.Runner, nc *nats.Conn, watch func() (*nats.Conn, error), log *zap.Logger) (*devConsole, error) {
	l, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("http: %w", err)
		}
	}
	problems := state.Of(ownVersion(), func() *bridge.Bridge { return b }, func() *txrunner.Runner { return runner }).AllProblems
	c := webconsole.New(webconsole.Config{
		Bridge: b, Runner: runner, Problems: problems, Requests: nc, Prefix: "pgbridge", Version: ownVersion(), Payloads: true, Watch: watch, Logger: log,
	})
	return &devConsole{l, c, web.Config{Problems: problems, Status: b.Status, More: c.Register, Logger: log}}, nil
}

// URL is where the page is.
func (c *devConsole) URL() string { return "http://" + c.listener.Addr().String() + "/" }

// Close frees the address, where Run was not called.
func (c *devConsole) Close() error {
	c.listener.Close()
	return nil
}

// Run serves it until ctx ends.
func (c *devConsole) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return web.Serve(ctx, c.listener, c.web) })
	group.Go(func() error { return c.console.Run(ctx) })
	return group.Wait()
}
