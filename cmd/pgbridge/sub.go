package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/natsconn"
)

type subCmd struct {
	clientFlags
	Subject []string `arg:"" optional:"" help:"Subjects; default: every event and gap under the prefix, and the subjects of the channels in the file."`
	JSON    bool     `name:"json" help:"Print one JSON object a line."`
	Count   int      `placeholder:"N" help:"End after N messages; 0: only at a signal."`
}

// Help shows examples.
func (subCmd) Help() string {
	return `Prints what arrives from now on, in the order of arrival.

Examples:

    pgbridge sub
    pgbridge sub --nats nats://localhost:4222 pgbridge.event.orders
    pgbridge sub -c pgbridge.yaml --json --count 10`
}

// Run prints messages until a signal, or until there were enough.
func (cmd subCmd) Run(ctx context.Context, p *process) error {
	if cmd.Count < 0 {
		return &usageError{errors.New("--count: want a number from 0")}
	}
	c, err := cmd.load(p)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(p.stderr, "pgbridge: "+format+"\n", args...) }
	nc, err := natsconn.Once(c.NATS, "pgbridge sub", clientHandlers(say)...)
	if err != nil {
		return err
	}
	defer nc.Close()
	subjects := cmd.Subject
	if len(subjects) == 0 {
		subjects = c.ownSubjects()
	}
	messages, err := subscribe(nc, subjects)
	if err != nil {
		return err
	}
	say("subscribed to %s at %s", strings.Join(subjects, " "), nc.ConnectedUrlRedacted())
	return receive(ctx, messages, cmd.Count, newPrinter(p.stdout, cmd.JSON))
}

// clientHandlers tell the person at the terminal what happens to the link.
func clientHandlers(say func(string, ...any)) []nats.Option {
	return []nats.Option{
		nats.MaxReconnects(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				say("disconnected: %v; trying again", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { say("connected again; messages in between were missed") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { say("%v", err) }),
	}
}

// ownSubjects are those that hold everything the bridge publishes.
func (c *config) ownSubjects() []string {
	subjects := []string{c.Prefix + ".event.>", c.Prefix + ".gap.>"}
	for _, name := range c.channelNames() {
		if event, _ := c.subjectsOf(name); event != "" && c.Channels[name].Subject != "" {
			subjects = append(subjects, event)
		}
	}
	return subjects
}

// subscribe puts all subjects into one Go channel, which keeps their order of
// arrival, and waits until the server has the subscriptions.
func subscribe(nc *nats.Conn, subjects []string) (<-chan *nats.Msg, error) {
	messages := make(chan *nats.Msg, 64<<10)
	for _, s := range subjects {
		if _, err := nc.ChanSubscribe(s, messages); err != nil {
			return nil, fmt.Errorf("subscribe %s: %w", s, err)
		}
	}
	if err := nc.FlushTimeout(answerLimit); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if err := nc.LastError(); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return messages, nil
}

// receive prints count messages (0: without end) or until ctx ends.
func receive(ctx context.Context, messages <-chan *nats.Msg, count int, out *printer) error {
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case m := <-messages:
			if err := out.print(m); err != nil {
				return fmt.Errorf("print message: %w", err)
			}
		}
		if n == count {
			return nil
		}
	}
}
