package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/tracing"
)

// trace begins the span of a delivery. What the job waited in the stream, for this
// delivery and those before, is below it.
func (j *Jobs) trace(ctx context.Context, one *job) (context.Context, tracing.Span) {
	if j.config.Tracer == nil {
		return tracing.Continue(ctx, one.msg.Header), tracing.Span{}
	}
	now := time.Now()
	ctx, span := j.config.Tracer.Serve(ctx, trace.SpanKindConsumer, "job", one.msg.Header, now,
		attribute.String("messaging.destination.name", one.msg.Subject),
		attribute.Int64("pgbridge.delivery", int64(one.meta.NumDelivered)))
	span.Past("queue wait", one.meta.Timestamp, now, trace.SpanKindInternal, "")
	return ctx, span
}

// failure is the code of what keeps a delivery from being done, empty for nothing.
func (v verdict) failure() string {
	if v.err == nil {
		return ""
	}
	return string(service.AsError(v.err).Code)
}

// publishing begins the span of a result's publishing, and returns what ends it and
// hands the error on.
func publishing(ctx context.Context) (context.Context, func(error) error) {
	ctx, span := tracing.Start(ctx, "publish")
	return ctx, func(err error) error {
		failure := ""
		switch {
		case errors.Is(err, nats.ErrMaxPayload):
			failure = string(service.CodeTooLarge)
		case err != nil:
			failure = string(service.CodeUnavailable)
		}
		span.End(failure)
		return err
	}
}
