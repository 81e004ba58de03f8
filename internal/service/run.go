package service

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/internal/wait"
)

// lastFlushTimeout is how long NATS may take for what was sent last.
const lastFlushTimeout = 2 * time.Second

// Run subscribes the endpoints and serves them until ctx ends; then it takes
// no more requests, waits for the ones it has, and returns nil. When StopGrace
// runs out first, the handlers' context ends and what still waits is answered
// unavailable. Run blocks, may be called once, and returns an error only if
// a connection was closed. It survives reconnects and refused
// subscriptions: see [Service.Problems]. From then on it hears the connections'
// errors, which reach their own error handlers too, unless those are set later.
func (s *Service) Run(ctx context.Context) error {
	s.hearErrors()
	group, ctx := errgroup.WithContext(ctx)
	work, cancel := wait.Grace(ctx, s.config.StopGrace)
	defer cancel()
	for _, e := range s.endpoints {
		group.Go(func() error { return e.run(ctx, work) })
	}
	group.Go(func() error { return s.monitor(ctx) })
	err := group.Wait()
	// What the link does not take in time is lost with the process; its
	// sender runs into a time-out.
	for _, nc := range s.connections() {
		if err := flush(context.WithoutCancel(ctx), nc, lastFlushTimeout); err != nil {
			s.config.Logger.Warn("last replies may be lost", zap.Error(err))
		}
	}
	return err
}

// hearErrors tells the endpoints of the errors that NATS reports, after whoever
// else wants to know of them.
func (s *Service) hearErrors() {
	for _, nc := range s.connections() {
		others := nc.ErrorHandler()
		nc.SetErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if others != nil {
				others(nc, sub, err)
			}
			s.full.hear(nc, err)
			for _, e := range s.endpoints {
				if e.nc == nc {
					e.hear(sub, err)
				}
			}
		})
	}
}
