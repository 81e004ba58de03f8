package client_test

import (
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/txrunner"
)

// TestRequestsBelongToTheirTrace asks in a span and in none, and wants PostgreSQL to
// know of it.
func TestRequestsBelongToTheirTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		scripts: map[string]string{"whose": "SELECT concat_ws(' ', nullif(current_setting('pgbridge.traceparent', true), ''), nullif(current_setting('pgbridge.tracestate', true), ''))"},
		runner: func(c *txrunner.Config) {
			c.Jobs = &txrunner.Jobs{Stream: txrunner.JobStream{Create: true}, Results: txrunner.ResultStream{Create: true}}
		},
	})
	c := w.client(client.Options{})
	state, err := trace.ParseTraceState("a=1")
	w.ok(err)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state})
	traced := trace.ContextWithSpanContext(w.ctx(), span)
	const parent = "00-01000000000000000000000000000000-0200000000000000-01 a=1"
	whose := func(reply *client.Reply, err error) (found string) {
		t.Helper()
		w.ok(err)
		w.ok(reply.Results[0].Rows[0].Scan(&found))
		return found
	}
	harness.Equal(t, "a run", whose(c.Run(traced, client.Script{Name: "whose"})), parent)
	harness.Equal(t, "a run in no span", whose(c.Run(w.ctx(), client.Script{Name: "whose"})), "")
	job, err := c.Job(traced, client.Script{Name: "whose"})
	w.ok(err)
	harness.Equal(t, "a job", whose(job.Wait(w.ctx())), parent)
}
