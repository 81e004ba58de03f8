package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// refusals are what NATS will not let through. It says so to the connection, and not to
// who has asked and would wait for an answer that cannot come.
type refusals struct {
	prefix string
	// of all is what a command cannot do without; of describe is what only makes it
	// better, and shall not end what else is under way.
	all, describe chan error
}

func newRefusals(prefix string) refusals {
	return refusals{prefix: prefix, all: make(chan error, 1), describe: make(chan error, 1)}
}

// hear is a handler of the connection's errors.
func (r refusals) hear(_ *nats.Conn, _ *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	told := r.all
	switch {
	case r.aboutDescribe(err):
		told = r.describe
	case r.aboutProgress(err): // only a bar is not drawn
		return
	}
	tell(told, fmt.Errorf("NATS forbids it: %w", err))
}

func tell(told chan<- error, err error) {
	select {
	case told <- err:
	default: // another one is there
	}
}

// There is only NATS's text to tell refusals apart by, as nats.go itself does.
const (
	forbidsPublish   = "permissions violation for publish to \""
	forbidsSubscribe = "permissions violation for subscription to \""
)

func (r refusals) aboutDescribe(err error) bool {
	text := err.Error()
	at := strings.Index(strings.ToLower(text), forbidsPublish)
	if at < 0 {
		return false
	}
	subject, _, _ := strings.Cut(text[at+len(forbidsPublish):], "\"")
	rest, ours := strings.CutPrefix(subject, r.prefix+".")
	if caller, is := strings.CutPrefix(rest, "as."); is {
		_, rest, _ = strings.Cut(caller, ".")
	}
	verb, _, _ := strings.Cut(rest, ".")
	return ours && verb == "describe"
}

func (r refusals) aboutProgress(err error) bool {
	return strings.Contains(err.Error(), "\""+r.prefix+".progress.") && strings.Contains(strings.ToLower(err.Error()), forbidsSubscribe)
}

// whileAllowed returns a context that also ends when NATS refuses something but what
// tells of scripts: no answer will come then. That this connection may not hear answers
// NATS says once, and it is true of all that is asked later.
func (r refusals) whileAllowed(ctx context.Context) (context.Context, func()) {
	return until(ctx, r.all, nil)
}

// whileDescribed is whileAllowed for who asks for what tells of scripts.
func (r refusals) whileDescribed(ctx context.Context) (context.Context, func()) {
	return until(ctx, r.all, r.describe)
}

func until(ctx context.Context, refused chan error, more <-chan error) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case err := <-refused:
			cancel(err)
			if strings.Contains(strings.ToLower(err.Error()), forbidsSubscribe) {
				tell(refused, err)
			}
		case err := <-more:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
