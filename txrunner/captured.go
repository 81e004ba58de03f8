package txrunner

import (
	"cmp"
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/txrunner/internal/captures"
)

// jetStream is the one that was given, or the connection's.
func (c Config) jetStream() (jetstream.JetStream, error) {
	if c.JetStream != nil {
		return c.JetStream, nil
	}
	return jetstream.New(cmp.Or(c.Transactions, c.Requests))
}

// Captured returns an error if a JetStream stream takes in requests for a
// Runner with this configuration, or for a bridge beside it: their senders would
// get its acknowledgements for answers, and its readers their parameters. One that
// acknowledges nothing may record requests, but not those on transactions, whose
// subjects are keys. It asks through Requests and blocks until JetStream has
// answered, ctx ends or a few seconds have passed; no JetStream is no error.
func (c Config) Captured(ctx context.Context) error {
	_, err := c.captured(ctx)
	return err
}

// captured is Captured, and reports whether every stream was looked at that there is.
func (c Config) captured(ctx context.Context) (all bool, err error) {
	js, err := c.jetStream()
	if err != nil {
		return false, fmt.Errorf("use JetStream: %w", err)
	}
	c = c.withDefaults()
	return captures.Requests{
		JetStream: js, All: c.Prefix + ".>", Keys: pinned.Pattern(c.Prefix),
		Subjects: append(c.Subjects(), c.Prefix+".notify.>", c.Prefix+".status", c.Prefix+".channels"),
	}.Look(ctx)
}

// Refused says why requests are refused now; nil means that they are not. It does
// not block.
func (r *Runner) Refused() error {
	if refusal := r.captures.Refusal(); refusal != nil {
		return refusal
	}
	return nil
}

func (r *Runner) captureProblems() []string {
	if refusal := r.captures.Refusal(); refusal != nil {
		return []string{part.Served.Problem(refusal.Message)}
	}
	return nil
}
