package main

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// spans is what a collector in this process has received.
type spans struct {
	url string

	mu  sync.Mutex // guards all
	all []*trace.Span
	raw []byte
}

func collect(t *testing.T) *spans {
	t.Helper()
	s := &spans{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var batch collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &batch)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.raw = append(s.raw, body...)
		for _, resource := range batch.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				s.all = append(s.all, scope.Spans...)
			}
		}
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// of returns the spans of a trace by their names, in the order of their beginnings.
func (s *spans) of(id string) map[string][]*trace.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string][]*trace.Span{}
	slices.SortStableFunc(s.all, func(a, b *trace.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	for _, one := range s.all {
		if hex.EncodeToString(one.TraceId) == id {
			all[one.Name] = append(all[one.Name], one)
		}
	}
	return all
}

func saidOf(s *trace.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

const traceID, parentID = "4bf92f3577b34da6a3ce929d0e0e47", "00f067aa0ba902b7"

// TestSpans runs pgbridge with a collector, asks for things as a client does that is
// traced, and looks at what the collector has got.
func TestSpans(t *testing.T) {
	t.Parallel()
	c, s := collect(t), newScripted(t)
	s.write(t, "two", "SELECT 1;\nSELECT @secret::text")
	s.write(t, "fails", "SELECT 1;\nSELECT 1 / @zero::int")
	s.write(t, "out", "COPY (SELECT generate_series(1, 10)) TO STDOUT")
	wantResult(t, call(t, nil, "migrate", "--postgres", s.url), exitOK, "", "")
	child := startWith(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_BSP_SCHEDULE_DELAY=50"},
		append([]string{"serve", "--set", "http=127.0.0.1:0"}, s.args("--set", "jobs=true")...)...)
	waitReady(t, httpAddress(t, child))
	nc := s.bus.Connect(t)
	ask := func(number, subject, body string) {
		t.Helper()
		m := &nats.Msg{Subject: "pgbridge." + subject, Data: []byte(body), Header: nats.Header{}}
		m.Header.Set("traceparent", "00-"+traceID+number+"-"+parentID+"-01")
		if _, err := nc.RequestMsg(m, timeLimit); err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
	}
	ask("01", "run.two", `{"params": {"secret": "hunter2"}}`)
	ask("02", "run.fails", `{"params": {"zero": 0}}`)
	ask("03", "copy.out", "")
	ask("04", "job.run.two", `{"params": {"secret": "hunter2"}}`) // answered by the stream
	testenv.Wait(t, timeLimit, "the job's span", func() bool { return len(c.of(traceID + "04")["job"]) > 0 })
	child.signal(t, syscall.SIGTERM) // what is left is sent
	if code := child.code(t); code != exitOK {
		t.Fatalf("exit code %d", code)
	}

	run := c.of(traceID + "01")
	if len(run["run"]) != 1 || len(run["queue wait"]) != 1 || len(run["pool wait"]) != 1 || len(run["statement"]) != 2 {
		t.Fatalf("of a run: %v", run)
	}
	root := run["run"][0]
	if hex.EncodeToString(root.ParentSpanId) != parentID || root.Kind != trace.Span_SPAN_KIND_SERVER || saidOf(root, "messaging.destination.name") != "pgbridge.run.two" {
		t.Errorf("the request's span is %v", root)
	}
	for i, sql := range []string{"SELECT 1", "SELECT @secret::text"} {
		if one := run["statement"][i]; saidOf(one, "db.query.text") != sql || string(one.ParentSpanId) != string(root.SpanId) || one.Status.GetCode() != 0 {
			t.Errorf("statement %d: %v", i+1, one)
		}
	}
	if strings.Contains(string(c.raw), "hunter2") {
		t.Error("a parameter is in the spans")
	}
	fails := c.of(traceID + "02")
	if f := fails["statement"]; len(f) != 2 || saidOf(f[1], "error.type") != "22012" || f[1].Status.GetCode() != trace.Status_STATUS_CODE_ERROR {
		t.Errorf("of a run that fails: %v", fails)
	}
	if saidOf(fails["run"][0], "error.type") != "sql_error" {
		t.Errorf("the request's span is %v", fails["run"][0])
	}
	job := c.of(traceID + "04")
	if len(job["job"]) != 1 || len(job["publish"]) != 1 || len(job["queue wait"]) != 1 || len(job["pool wait"]) != 1 || len(job["statement"]) != 2 ||
		saidOf(job["job"][0], "pgbridge.outcome") != "done" || job["job"][0].Kind != trace.Span_SPAN_KIND_CONSUMER {
		t.Errorf("of a job: %v", job)
	}
	copied := c.of(traceID + "03")
	if len(copied["copy"]) != 2 || saidOf(copied["copy"][1], "pgbridge.direction") != "out" || len(copied["pool wait"]) != 1 {
		t.Errorf("of a copy: %v", copied)
	}
}

// TestTraceOfAnEvent has a traced script send an event of a durable channel: the event
// names the request's span, and so does the span of its publishing.
func TestTraceOfAnEvent(t *testing.T) {
	t.Parallel()
	c, s := collect(t), newScripted(t)
	s.write(t, "bill", "SELECT pgbridge.notify('billing', '7'), current_setting('application_name')")
	wantResult(t, call(t, nil, "migrate", "--postgres", s.url), exitOK, "", "")
	prefix := "traced" + strings.ToLower(rand.Text()[:8]) // of the slot, which all databases share
	nc := s.bus.Connect(t)
	hear := func(kind string) *nats.Subscription {
		sub, err := nc.SubscribeSync(prefix + kind + ".billing")
		if err == nil {
			err = nc.FlushTimeout(timeLimit)
		}
		if err != nil {
			t.Fatal(err)
		}
		return sub
	}
	events, gaps := hear(".event"), hear(".gap")
	child := startWith(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_BSP_SCHEDULE_DELAY=50"}, append([]string{"serve", "--set", "http=127.0.0.1:0"},
		s.args("--set", "prefix="+prefix, "--set", "channels.billing.durable=true", "--set", "postgres.trace_name=true")...)...)
	waitReady(t, httpAddress(t, child))
	if _, err := gaps.NextMsg(timeLimit); err != nil { // with which the channel begins
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: prefix + ".run.bill", Header: nats.Header{"traceparent": {"00-" + traceID + "05-" + parentID + "-01"}, "tracestate": {"rojo=00f067aa0ba902b7"}}}
	answer, err := nc.RequestMsg(m, timeLimit)
	if err != nil {
		t.Fatal(err)
	}
	event, err := events.NextMsg(timeLimit)
	if err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, timeLimit, "the spans", func() bool {
		all := c.of(traceID + "05")
		return len(all["run"]) == 1 && len(all["publish"]) == 1
	})
	all := c.of(traceID + "05")
	run, publish := all["run"][0], all["publish"][0]
	if want := "00-" + traceID + "05-" + hex.EncodeToString(run.SpanId) + "-01"; event.Header.Get("traceparent") != want {
		t.Errorf("the event's header is %v, want %s", event.Header, want)
	} else if !strings.Contains(string(answer.Data), want) {
		t.Errorf("application_name in the transaction: %s, want %s", answer.Data, want)
	}
	for where, state := range map[string]string{"the event": event.Header.Get("tracestate"), "the request's span": run.TraceState, "the span of the publishing": publish.TraceState} {
		if state != "rojo=00f067aa0ba902b7" {
			t.Errorf("%s has the state %q", where, state)
		}
	}
	if string(publish.ParentSpanId) != string(run.SpanId) || publish.Kind != trace.Span_SPAN_KIND_PRODUCER || saidOf(publish, "pgbridge.channel") != "billing" {
		t.Errorf("the span of the publishing is %v", publish)
	}
}

// TestFaultyTelemetryIsAFaultOfTheConfiguration has spans asked for in a form that there is not.
func TestFaultyTelemetryIsAFaultOfTheConfiguration(t *testing.T) {
	t.Parallel()
	c := startWith(t, []string{"OTEL_TRACES_EXPORTER=zipkin"}, "serve", "--postgres", "postgres://app@127.0.0.1:1/app", "--channel", "a", "--set", "http=off")
	if code := c.code(t); code != exitUsage || !strings.Contains(c.stderr.String(), "OTEL_TRACES_EXPORTER") {
		t.Errorf("exit code %d, %s", code, &c.stderr)
	}
}
