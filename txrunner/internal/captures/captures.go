// Package captures finds JetStream streams that capture requests: their senders get
// the stream's acknowledgement for an answer, and its readers their parameters.
//
//	served ── a stream is found ──► refused (not ready; the stream is named)
//	refused ── it is gone ──► served
package captures

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/subject"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	timeout = 5 * time.Second // to ask JetStream for its streams
	// every is how often a watch looks again.
	every = 10 * time.Second
)

// Error says which stream captures requests, and on which subject.
type Error struct{ Stream, Subject string }

func (e *Error) Error() string {
	return fmt.Sprintf("the stream %s captures requests on %s: change its subjects, or the prefix", e.Stream, e.Subject)
}

// Requests are the subjects that no stream may capture.
type Requests struct {
	JetStream jetstream.JetStream
	// All matches more than all of them: <prefix>.>.
	All      string
	Subjects []string
	// Keys is the one of Subjects that is a key to something: no stream may record it.
	// The others may be recorded by one that acknowledges nothing.
	Keys string
}

// Look returns an [*Error] if there is such a stream, and reports whether every one was
// looked at that there is. It blocks until JetStream has answered, ctx ends or a few
// seconds have passed; no JetStream is no error.
func (r Requests) Look(ctx context.Context) (all bool, err error) {
	all = true
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	names := r.JetStream.StreamNames(ctx, jetstream.WithStreamListSubject(r.All))
	for name := range names.Name() {
		stream, err := r.JetStream.Stream(ctx, name)
		if err != nil { // deleted meanwhile, or not ours to see
			all = all && errors.Is(err, jetstream.ErrStreamNotFound)
			continue
		}
		if taken := r.takenBy(stream.CachedInfo().Config); taken != "" {
			return all, &Error{Stream: name, Subject: taken}
		}
	}
	if err := names.Err(); err != nil {
		return all && noJetStream(err), ignoreNoJetStream(err)
	}
	return all, nil
}

// takenBy returns the first subject that a stream captures, empty for none.
func (r Requests) takenBy(stream jetstream.StreamConfig) string {
	for _, mine := range r.Subjects {
		for _, theirs := range stream.Subjects {
			if subject.Overlaps(mine, theirs) && (!stream.NoAck || mine == r.Keys) {
				return mine
			}
		}
	}
	return ""
}

// noJetStream reports whether an error means that there are no streams.
func noJetStream(err error) bool {
	return isOne(err, jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount, nats.ErrNoResponders)
}

func isOne(err error, of ...error) bool {
	return slices.ContainsFunc(of, func(one error) bool { return errors.Is(err, one) })
}

// ignoreNoJetStream returns nil for errors that mean that this user sees no
// streams at all.
func ignoreNoJetStream(err error) error {
	if noJetStream(err) || isOne(err, nats.ErrTimeout, context.DeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("look for streams that capture requests: %w", err)
}

// Watch looks again and again. What it finds is the answer to every request. Its
// methods are safe for concurrent use.
type Watch struct {
	Look func(context.Context) (all bool, err error) // see [Requests.Look]
	Log  *zap.Logger

	refusal atomic.Pointer[service.Error] // nil: none
}

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	for wait.For(ctx, every) {
		w.once(ctx)
	}
	return nil
}

// once looks once. Where JetStream does not answer, or not for all streams, a stream
// that captured requests before may still do so.
func (w *Watch) once(ctx context.Context) {
	all, err := w.Look(ctx)
	var captured *Error
	if errors.As(err, &captured) || err == nil && all {
		w.note(captured)
	}
}

func (w *Watch) note(captured *Error) {
	var refusal *service.Error
	if captured != nil {
		refusal = service.Errorf(service.CodeUnavailable, "%v", captured)
	}
	switch old := w.refusal.Swap(refusal); {
	case refusal != nil && (old == nil || old.Message != refusal.Message):
		w.Log.Error("requests are refused", zap.Error(captured))
	case refusal == nil && old != nil:
		w.Log.Info("requests are served again")
	}
}

// Refusal is why requests are refused now; nil means that they are not. It does not
// block.
func (w *Watch) Refusal() *service.Error { return w.refusal.Load() }
