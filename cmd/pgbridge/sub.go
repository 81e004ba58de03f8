package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/client/operate"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/internal/spelling"
)

type subCmd struct {
	clientFlags
	Names   []string      `arg:"" optional:"" placeholder:"CHANNEL|SUBJECT" help:"Channels, or subjects, which have a dot or a wildcard in them; a channel with one is given by --channel. Default: every event and gap under the prefix, and the subjects of the channels in the file."`
	Channel []string      `sep:"none" placeholder:"NAME" help:"This channel; repeatable."`
	JSON    bool          `name:"json" help:"Print one JSON object a line."`
	Count   int           `placeholder:"N" help:"End after N messages; 0: only at a signal."`
	Since   time.Duration `placeholder:"DURATION" help:"Begin with what the stream got so long ago."`
	Last    int           `placeholder:"N" help:"Begin with the last N messages in the stream."`
	FromSeq uint64        `name:"from-seq" placeholder:"N" help:"Begin with the message of this number in the stream."`
	Durable string        `placeholder:"NAME" help:"Go on behind what this consumer of the stream has had, and keep it; it begins with all that the stream holds, or where the flags say."`
	Stream  string        `placeholder:"NAME" help:"The stream. Default: the one that the configuration names for events."`
}

// Help shows examples.
func (subCmd) Help() string {
	return `Prints what arrives from now on, in the order of arrival. With --since, --last,
--from-seq or --durable it reads the stream of events instead, which holds those of
channels with JetStream delivery, and goes on with what comes.

Examples:

    pgbridge sub
    pgbridge sub orders audit
    pgbridge sub --nats nats://localhost:4222 pgbridge.event.orders
    pgbridge sub -c pgbridge.yaml --json --count 10
    pgbridge sub audit --since 10m
    pgbridge sub audit --last 20
    pgbridge sub --stream PGBRIDGE_DURABLE billing --durable printer`
}

// validate looks at the flags.
func (cmd subCmd) validate() error {
	places := 0
	for _, set := range []bool{cmd.Since != 0, cmd.Last != 0, cmd.FromSeq != 0} {
		if set {
			places++
		}
	}
	switch {
	case cmd.Count < 0:
		return errors.New("--count: want a number from 0")
	case cmd.Since < 0:
		return errors.New("--since: want a positive duration")
	case cmd.Last < 0:
		return errors.New("--last: want a number from 1")
	case places > 1:
		return errors.New("give one of --since, --last and --from-seq")
	case cmd.Stream != "" && !cmd.fromStream():
		return errors.New("--stream goes with --since, --last, --from-seq or --durable")
	}
	return nil
}

func (cmd subCmd) fromStream() bool {
	return cmd.Since != 0 || cmd.Last != 0 || cmd.FromSeq != 0 || cmd.Durable != ""
}

// Run prints messages until a signal, or until there were enough.
func (cmd subCmd) Run(ctx context.Context, p *process) error {
	if err := cmd.validate(); err != nil {
		return &usageError{err}
	}
	say := func(format string, args ...any) { p.say(fmt.Sprintf(format, args...)) }
	r, err := cmd.connect(p, "sub", "", clientHandlers(say)...)
	if err != nil {
		return err
	}
	defer r.close()
	subjects := cmd.subjects(r, cmd.known(ctx, r))
	r.nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { say("%v", err) })
	out := console.Messages{Out: p.stdout, JSON: cmd.JSON, Colors: console.Colored(p.stdout, p.getenv)}
	if cmd.JSON {
		out.Out = p.shown(p.stdout)
	}
	if cmd.fromStream() {
		k, err := cmd.consume(ctx, r, subjects)
		if err != nil {
			return err
		}
		say("reading %s from a stream at %s", strings.Join(subjects, " "), r.nc.ConnectedUrlRedacted())
		return printEvents(ctx, k.Events, cmd.Count, out, say)
	}
	sub, err := r.Subscribe(ctx, client.SubscribeOptions{Subjects: subjects})
	if err != nil {
		return err
	}
	defer sub.Close()
	say("subscribed to %s at %s", strings.Join(subjects, " "), r.nc.ConnectedUrlRedacted())
	return printEvents(ctx, sub.Events, cmd.Count, out, say)
}

// known are the channels of the running pgbridge, by name; nil where it does not
// tell. A name that is none of them is named: nothing would ever come.
func (cmd subCmd) known(ctx context.Context, r *remote) map[string]operate.Channel {
	running, err := r.running(ctx)
	if err != nil {
		return nil
	}
	known := map[string]operate.Channel{}
	var names []string
	for _, c := range running {
		known[c.Name] = c
		names = append(names, c.Name)
	}
	for _, name := range slices.Concat(cmd.Names, cmd.Channel) {
		if _, is := known[name]; is || strings.ContainsAny(name, ".*>") {
			continue
		}
		hint := ""
		if near, found := spelling.Meant(name, names); found {
			hint = fmt.Sprintf("; is %s meant?", console.Printable(near))
		}
		r.say("pgbridge listens to no channel %s%s", console.Printable(name), hint)
	}
	return known
}

// subjects are what to listen to: of channels those that the running pgbridge says,
// or else the file.
func (cmd subCmd) subjects(r *remote, running map[string]operate.Channel) []string {
	if len(cmd.Names) == 0 && len(cmd.Channel) == 0 {
		all := r.config.PublishedSubjects()
		for _, c := range running {
			if !strings.HasPrefix(c.Subject, r.config.Prefix+".event.") && !slices.Contains(all, c.Subject) {
				all = append(all, c.Subject)
			}
		}
		return all
	}
	var all []string
	channel := func(name string) {
		event, gap := r.config.SubjectsOf(name)
		if c, known := running[name]; known {
			event, gap = c.Subject, c.Gap
		}
		all = append(all, event, gap)
	}
	for _, name := range cmd.Names {
		_, runs := running[name]
		if _, known := r.config.Channels[name]; known || runs || !strings.ContainsAny(name, ".*>") {
			channel(name)
		} else {
			all = append(all, name)
		}
	}
	for _, name := range cmd.Channel {
		channel(name)
	}
	return all
}

func (cmd subCmd) consume(ctx context.Context, r *remote, subjects []string) (*client.Consumption, error) {
	o := client.ConsumeOptions{
		Stream: cmd.Stream, Durable: cmd.Durable, Subjects: subjects,
		Sequence: cmd.FromSeq, Last: cmd.Last,
	}
	if o.Stream == "" {
		o.Stream = r.config.Events.NameFor(r.config.Prefix)
	}
	if cmd.Since > 0 {
		o.Since = time.Now().Add(-cmd.Since)
	}
	ctx, done := r.whileAllowed(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, 2*answerLimit)
	defer cancel()
	return r.Consume(ctx, o)
}

// printEvents prints count messages (0: without end) or until ctx ends. The last
// one counts as handled, too.
func printEvents(ctx context.Context, events func(context.Context) iter.Seq2[client.Event, error], count int, out console.Messages, say func(string, ...any)) error {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	n := 0
	for ev, err := range events(ctx) {
		switch {
		case ctx.Err() != nil:
			return nil
		case ev.Message == nil && err != nil:
			return err
		case ev.Message == nil && ev.Gap.Dropped != nil:
			say("%d messages were dropped: they came faster than they could be printed", *ev.Gap.Dropped)
			continue
		case ev.Message == nil:
			continue // a handler has said so
		}
		if err := out.Print(ev.Message, ev.Gap != nil); err != nil {
			return fmt.Errorf("print message: %w", err)
		}
		if n++; n == count {
			enough()
		}
	}
	return nil
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
	}
}
