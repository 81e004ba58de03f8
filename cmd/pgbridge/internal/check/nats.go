package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/stream"
)

const (
	leastPayload = 16 << 10 // a payload of 7,999 bytes, escaped, in an envelope
	answerLimit  = 5 * time.Second
)

// checkNATS reports what the server allows.
func checkNATS(ctx context.Context, c *config.Config, r *report) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r.heading("NATS")
	events, err := natsconn.Once(c.NATS, c.NATSName+" check")
	if err != nil && c.Embedded {
		r.verdict("embedded server", "can start at "+strings.Join(c.NATS.URLs, ","), embeddedCanStart(c))
		return
	}
	if err != nil {
		r.fail("reachable", "%s: %s", config.MaskURLs(strings.Join(c.NATS.URLs, ",")), firstLine(err))
		return
	}
	defer events.Close()
	r.ok("reachable", "%s, nats-server %s", events.ConnectedUrlRedacted(), events.ConnectedServerVersion())
	k := natsCheck{r, c, events}
	k.payload()
	k.publish()
	k.streams(ctx, c.EventStreams())
	requests, err := natsconn.Once(c.NATS.WithCredentials(c.Requests), c.NATSName+" check", nats.PermissionErrOnSubscribe(true))
	if err != nil {
		k.fail("requests", "%s", firstLine(err))
		return
	}
	defer requests.Close()
	k.nc = requests
	k.requests(ctx)
	k.streams(ctx, c.JobStreams())
}

// embeddedCanStart is asked when nothing answers at the embedded server's
// address: pgbridge is not running.
func embeddedCanStart(c *config.Config) error {
	e, err := natsconn.EmbeddedAt(c.NATS.URLs)
	if err != nil {
		return err
	}
	return e.TryPort()
}

type natsCheck struct {
	*report
	config *config.Config
	nc     *nats.Conn // as the user for events, then as the one for requests
}

func (k natsCheck) payload() {
	n := k.nc.MaxPayload()
	if n < leastPayload {
		k.fail("max_payload", "%d bytes: at least %d are wanted", n, leastPayload)
		return
	}
	k.ok("max_payload", "%s", config.FormatSize(int(n)))
}

func (k natsCheck) publish() {
	for _, name := range k.config.ChannelNames() {
		event, gap := k.config.SubjectsOf(name)
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
	runner := k.config.Runner()
	runner.Requests = k.nc
	runner.JetStream, _ = k.config.NATS.JetStream(k.nc) // its fault is the streams'
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

// streams checks what channels with JetStream delivery, or jobs, need.
func (k natsCheck) streams(ctx context.Context, wanted []config.Stream) {
	if len(wanted) == 0 {
		return
	}
	js, err := k.config.NATS.JetStream(k.nc)
	if err == nil {
		err = jetStreamEnabled(ctx, js)
	}
	if !k.verdict("JetStream", "enabled", err) {
		return
	}
	for _, w := range wanted {
		k.stream(ctx, js, w)
	}
}

// stream says what serve will find or do.
func (k natsCheck) stream(ctx context.Context, js jetstream.JetStream, w config.Stream) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	need := stream.Need{Kind: w.Kind, Config: jetstream.StreamConfig{Name: w.Name, Subjects: w.Subjects}, Create: w.Create, CreateKey: w.Key + ".create"}
	if w.Kind == stream.Events || w.Kind == stream.Durable {
		need.Prefix = k.config.Prefix
	}
	state, err := need.Look(ctx, js)
	k.verdict("stream "+w.Name, state.String(), err)
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
