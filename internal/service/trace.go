package service

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgbridge/pgbridge/internal/tracing"
)

// trace begins the spans of the requests of a batch, from their receipt on, with what
// they have waited. The context returned has the span where there is only one.
func (e *endpoint) trace(ctx context.Context, batch []*Request) context.Context {
	if e.host.config.Tracer == nil {
		if len(batch) == 1 {
			ctx = tracing.Continue(ctx, batch[0].Header)
		}
		return ctx
	}
	now := time.Now()
	for _, r := range batch {
		subject := r.Subject
		if e.Private != nil {
			subject = e.Subject // it holds a key
		}
		traced, span := e.host.config.Tracer.Serve(ctx, trace.SpanKindServer, e.Name, r.Header, r.Received,
			attribute.String("messaging.destination.name", subject))
		span.Past("queue wait", r.Received, now, trace.SpanKindInternal, "")
		r.span = &span
		if len(batch) == 1 {
			return traced
		}
	}
	return ctx
}

// endSpan ends the request's span with what it is answered.
func (r *Request) endSpan(code Code) {
	if r.span == nil {
		return
	}
	failure := string(code)
	if code == codeOK {
		failure = ""
	}
	r.span.End(failure)
}
