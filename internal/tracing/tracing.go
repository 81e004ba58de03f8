// Package tracing is what of OpenTelemetry the parts need: a span for what somebody
// asked for, continued from the traceparent of its message, and spans below it.
//
// It is off unless a provider is given, and then costs a look into a context: no
// context holds a span, so nothing begins one. Spans hold names, counts, codes and
// SQL as scripts have it, never a parameter, a payload or PostgreSQL's messages.
package tracing

import (
	"context"
	"net/textproto"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	scope = "github.com/pgbridge/pgbridge"
	// Header is the header that names the span which a message belongs to.
	// https://www.w3.org/TR/trace-context/
	Header = "traceparent"
	// StateHeader is the header with what the tracing systems on the way have left for
	// each other.
	StateHeader = "tracestate"
)

// Tracer begins the spans that are below none of this process. A nil *Tracer begins
// none at all.
type Tracer struct{ tracer trace.Tracer }

// New returns a tracer, nil without a provider.
func New(p trace.TracerProvider) *Tracer {
	if p == nil {
		return nil
	}
	return &Tracer{p.Tracer(scope)}
}

// Span is a piece of work that is being traced. The zero value is none: its methods
// do nothing.
type Span struct{ span trace.Span }

// carrier reads and writes the headers of a message.
type carrier nats.Header

// Get takes the name as HTTP's libraries write it, too: names of headers have no case
// there, but in NATS they have.
func (c carrier) Get(key string) string {
	if value := nats.Header(c).Get(key); value != "" {
		return value
	}
	return nats.Header(c).Get(textproto.CanonicalMIMEHeaderKey(key))
}

func (c carrier) Set(key, value string) { nats.Header(c).Set(key, value) }

func (c carrier) Keys() []string { return nil }

// Continue returns a context that belongs to the span which a message's headers name,
// if they name one, so that [Parent] finds it though nobody makes spans here.
func Continue(ctx context.Context, h nats.Header) context.Context {
	if h == nil {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, carrier(h))
}

// Serve begins the span of work that a message asks for, as of when it was received.
// It belongs to the span that the message's headers name, and is in the context
// returned. A nil *Tracer only continues what they name.
func (t *Tracer) Serve(ctx context.Context, kind trace.SpanKind, name string, h nats.Header, received time.Time, about ...attribute.KeyValue) (context.Context, Span) {
	if ctx = Continue(ctx, h); t == nil {
		return ctx, Span{}
	}
	ctx, s := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(received),
		trace.WithAttributes(attribute.String("messaging.system", "nats")), trace.WithAttributes(about...))
	return ctx, Span{s}
}

// Active returns the context's span, if it is being recorded.
func Active(ctx context.Context) Span {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		return Span{s}
	}
	return Span{}
}

// Recorded reports whether there is a span.
func (s Span) Recorded() bool { return s.span != nil }

// Start begins a span below the context's; without one there is none.
func Start(ctx context.Context, name string, about ...attribute.KeyValue) (context.Context, Span) {
	parent := Active(ctx)
	if !parent.Recorded() {
		return ctx, Span{}
	}
	ctx, child := parent.span.TracerProvider().Tracer(scope).Start(ctx, name, trace.WithAttributes(about...))
	return ctx, Span{child}
}

// Past adds a span below s of something that is over.
func (s Span) Past(name string, began, ended time.Time, kind trace.SpanKind, failure string, about ...attribute.KeyValue) {
	if s.span == nil {
		return
	}
	_, child := s.span.TracerProvider().Tracer(scope).Start(trace.ContextWithSpan(context.Background(), s.span), name,
		trace.WithSpanKind(kind), trace.WithTimestamp(began), trace.WithAttributes(about...))
	Span{child}.fail(failure)
	child.End(trace.WithTimestamp(ended))
}

// End ends the span. failure is the code of an error, empty for none.
func (s Span) End(failure string, about ...attribute.KeyValue) {
	if s.span == nil {
		return
	}
	s.span.SetAttributes(about...)
	s.fail(failure)
	s.span.End()
}

func (s Span) fail(failure string) {
	if failure != "" {
		s.span.SetAttributes(attribute.String("error.type", failure))
		s.span.SetStatus(codes.Error, failure)
	}
}

// Parent returns the context's span as the headers traceparent and tracestate name it,
// recorded or not; both are empty for none, and the state where nobody has left any.
func Parent(ctx context.Context) (parent, state string) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return "", ""
	}
	h := nats.Header{}
	propagation.TraceContext{}.Inject(ctx, carrier(h))
	return h.Get(Header), h.Get(StateHeader)
}

// Published adds the span of an event that was published, to the trace that the
// event's own headers name. Without one there is none: an event is no trace.
func (t *Tracer) Published(h map[string]string, received, stored time.Time, about ...attribute.KeyValue) {
	if t == nil || h[Header] == "" {
		return
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier(h))
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	_, s := t.tracer.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(received),
		trace.WithAttributes(attribute.String("messaging.system", "nats")), trace.WithAttributes(about...))
	s.End(trace.WithTimestamp(stored))
}
