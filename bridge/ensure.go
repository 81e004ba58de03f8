package bridge

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge/internal/durable"
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/publish"
)

// jetStream is the one that was given, or the connection's.
func (c Config) jetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	if c.JetStream != nil {
		return c.JetStream, nil
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return js, nil
}

// EnsureStream creates the stream of events or adds the subjects it lacks, as
// Run does when it needs it; without Stream.Create it returns an error if
// something is missing. Where no channel has JetStream delivery it does
// nothing. It blocks until JetStream has answered or ctx ends.
func EnsureStream(ctx context.Context, nc *nats.Conn, c Config) error {
	c = c.withDefaults()
	js, err := c.jetStream(nc)
	if err != nil {
		return err
	}
	routes, err := routesOf(c.Channels, c.Prefix)
	if err != nil {
		return err
	}
	s := publish.NewEventStream(js, c.Prefix, c.Stream.need())
	s.SetRoutes(routes)
	_, err = s.Ensure(ctx)
	return err
}

// EnsureDurableStream creates the stream of durable events or adds the subjects
// it lacks, as Run does when it needs it. Where no channel is durable it does
// nothing. It blocks until JetStream has answered or ctx ends.
func EnsureDurableStream(ctx context.Context, nc *nats.Conn, c Config) error {
	c = c.withDefaults()
	routes, err := routesOf(c.Channels, c.Prefix)
	if err != nil {
		return err
	}
	_, durables := split(routes)
	if len(durables) == 0 {
		return nil
	}
	js, err := c.jetStream(nc)
	if err != nil {
		return err
	}
	return durable.EnsureStream(ctx, js, c.Durable.options(c.Prefix), durables)
}

// split tells routes of durable channels from the others.
func split(routes map[string]*event.Route) (plain, durable map[string]*event.Route) {
	plain, durable = map[string]*event.Route{}, map[string]*event.Route{}
	for name, r := range routes {
		if r.Durable {
			durable[name] = r
		} else {
			plain[name] = r
		}
	}
	return plain, durable
}
