package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/subject"
)

const (
	leastPayload = 16 << 10 // a payload of 7,999 bytes, escaped, in an envelope
	answerLimit  = 5 * time.Second
)

// checkNATS reports what the server allows.
func checkNATS(ctx context.Context, c *config, r *report) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	r.heading("NATS")
	events, err := natsconn.Once(c.NATS, c.NATSName+" check")
	if err != nil && c.Embedded {
		r.verdict("embedded server", "can start at "+strings.Join(c.NATS.URLs, ","), embeddedCanStart(c))
		return
	}
	if err != nil {
		r.fail("reachable", "%s: %s", maskURLs(strings.Join(c.NATS.URLs, ",")), firstLine(err))
		return
	}
	defer events.Close()
	r.ok("reachable", "%s, nats-server %s", events.ConnectedUrlRedacted(), events.ConnectedServerVersion())
	k := natsCheck{r, c, events}
	k.payload()
	k.publish()
	k.streams(ctx, c.eventStreams())
	requests, err := natsconn.Once(c.NATS.WithCredentials(c.Requests), c.NATSName+" check", nats.PermissionErrOnSubscribe(true))
	if err != nil {
		k.fail("requests", "%s", firstLine(err))
		return
	}
	defer requests.Close()
	k.nc = requests
	k.requests(ctx)
	k.streams(ctx, c.jobStreams())
}

// embeddedCanStart is asked when nothing answers at the embedded server's
// address: pgbridge is not running.
func embeddedCanStart(c *config) error {
	e, err := natsconn.EmbeddedAt(c.NATS.URLs)
	if err != nil {
		return err
	}
	return e.TryPort()
}

type natsCheck struct {
	*report
	config *config
	nc     *nats.Conn // as the user for events, then as the one for requests
}

func (k natsCheck) payload() {
	n := k.nc.MaxPayload()
	if n < leastPayload {
		k.fail("max_payload", "%d bytes: at least %d are wanted", n, leastPayload)
		return
	}
	k.ok("max_payload", "%s", formatSize(int(n)))
}

func (k natsCheck) publish() {
	for _, name := range k.config.channelNames() {
		event, gap := k.config.subjectsOf(name)
		for _, s := range []string{event, gap} {
			k.verdict("may publish", s, mayPublish(k.nc, strings.ReplaceAll(s, "*", "_")))
		}
	}
}

// mayPublish asks without anybody hearing it: the server looks at the
// publisher's permission first and then refuses the message anyhow, because
// its reply subject is one that clients may not use.
// https://github.com/nats-io/nats-server/blob/v2.15.2/server/client.go#L4429
func mayPublish(nc *nats.Conn, subject string) error {
	if err := nc.PublishRequest(subject, "_R_.pgbridge.check", nil); err != nil {
		return fmt.Errorf("publish %s: %w", subject, err)
	}
	if err := nc.FlushTimeout(answerLimit); err != nil {
		return fmt.Errorf("publish %s: %w", subject, err)
	}
	err := nc.LastError()
	if errors.Is(err, nats.ErrPermissionViolation) && !strings.Contains(strings.ToLower(err.Error()), "with reply") {
		return fmt.Errorf("publish %s: the server forbids it", subject)
	}
	return nil
}

// requests looks at the subjects that serve always subscribes, so that a
// channel or script that does not exist is an error and not silence.
func (k natsCheck) requests(ctx context.Context) {
	runner := k.config.runner()
	runner.Requests = k.nc
	for _, s := range append([]string{k.config.Prefix + ".notify.>"}, runner.Subjects()...) {
		k.verdict("may subscribe", s, maySubscribe(k.nc, s))
	}
	k.verdict("requests", "no stream captures them", runner.Captured(ctx))
}

func maySubscribe(nc *nats.Conn, subject string) error {
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.FlushTimeout(answerLimit); err != nil {
		return fmt.Errorf("subscribe %s: %w", subject, err)
	}
	// A refusal came before the answer to the flush.
	if _, err := sub.NextMsg(time.Millisecond); errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("subscribe %s: the server forbids it", subject)
	}
	return nil
}

// wantedStream is a stream that serve needs.
type wantedStream struct {
	key      string // of its settings
	name     string
	subjects []string
	create   bool
}

func (c *config) eventStreams() []wantedStream {
	subjects := c.streamSubjects()
	if len(subjects) == 0 {
		return nil
	}
	return []wantedStream{{"streams.events", c.Events.NameFor(c.Prefix), subjects, c.Events.Create}}
}

func (c *config) jobStreams() []wantedStream {
	var all []wantedStream
	for i, s := range c.runner().JobStreams() {
		key, create := "streams.jobs", c.Jobs.Stream.Create
		if i > 0 {
			key, create = "streams.results", c.Jobs.Results.Create
		}
		all = append(all, wantedStream{key, s.Name, s.Subjects, create})
	}
	return all
}

// streams checks what channels with JetStream delivery, or jobs, need.
func (k natsCheck) streams(ctx context.Context, wanted []wantedStream) {
	if len(wanted) == 0 {
		return
	}
	js, err := jetstream.New(k.nc)
	if err == nil {
		err = jetStreamEnabled(ctx, js)
	}
	if !k.verdict("JetStream", "enabled", err) {
		return
	}
	for _, w := range wanted {
		detail, err := w.state(ctx, js)
		k.verdict("stream "+w.name, detail, err)
	}
}

func jetStreamEnabled(ctx context.Context, js jetstream.JetStream) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	_, err := js.AccountInfo(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer: does the user's permission include $JS.API.> and the replies' inbox?")
	}
	return err
}

// state says what serve will find or do.
func (w wantedStream) state(ctx context.Context, js jetstream.JetStream) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	stream, err := js.Stream(ctx, w.name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return w.missing(ctx, js)
	case err != nil:
		return "", fmt.Errorf("look at stream %s: %w", w.name, err)
	}
	missing := uncovered(stream.CachedInfo().Config.Subjects, w.subjects)
	switch {
	case len(missing) == 0:
		return "exists and holds every subject", nil
	case w.create:
		return "exists; serve will add " + strings.Join(missing, " "), nil
	}
	return "", fmt.Errorf("it does not hold %s: add them, or set %s.create", strings.Join(missing, " "), w.key)
}

func (w wantedStream) missing(ctx context.Context, js jetstream.JetStream) (string, error) {
	if !w.create {
		return "", fmt.Errorf("it does not exist: create it, or set %s.create", w.key)
	}
	for _, s := range w.subjects {
		if other, err := js.StreamNameBySubject(ctx, s); err == nil {
			return "", fmt.Errorf("cannot be created: stream %s holds %s", other, s)
		}
	}
	return "does not exist; serve will create it", nil
}

// uncovered lists the subjects that no pattern holds.
func uncovered(patterns, subjects []string) []string {
	var missing []string
	for _, s := range subjects {
		if !slices.ContainsFunc(patterns, func(p string) bool { return subject.Covers(p, s) }) {
			missing = append(missing, s)
		}
	}
	return missing
}
