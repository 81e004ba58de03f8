package service

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus"
)

func failIfAsked(_ context.Context, r *Request) (Reply, error) {
	if string(r.Data) == "fail" {
		return Reply{}, &Error{Code: CodeSQLError, SQLState: "22P02", Message: "secret"}
	}
	return Reply{}, nil
}

func discover[T any](t *testing.T, r *rig, subject string) T {
	t.Helper()
	var answer T
	if err := json.Unmarshal(request(t, r.client, subject, "").Data, &answer); err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return answer
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{Name: "do", Subject: "pgbridge.do.>", Handler: Each(failIfAsked)})
	for _, suffix := range []string{"", ".pgbridge", ".pgbridge." + r.id} {
		ping := discover[micro.Ping](t, r, "$SRV.PING"+suffix)
		if ping.Type != micro.PingResponseType || ping.Name != "pgbridge" || ping.ID != r.id || ping.Version != "1.2.3" {
			t.Errorf("PING%s = %+v", suffix, ping)
		}
		info := discover[micro.Info](t, r, "$SRV.INFO"+suffix)
		if info.Type != micro.InfoResponseType || info.Description != "a test" || len(info.Endpoints) != 1 {
			t.Fatalf("INFO%s = %+v", suffix, info)
		}
		if e := info.Endpoints[0]; e.Name != "do" || e.Subject != "pgbridge.do.>" || e.QueueGroup != "pgbridge" {
			t.Errorf("INFO%s endpoint = %+v", suffix, e)
		}
	}
}

func TestStatisticsCountErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{Name: "do", Subject: "pgbridge.do.>", Handler: Each(failIfAsked)})
	for _, body := range []string{"", "", "fail", "", "fail"} {
		request(t, r.client, "pgbridge.do.x", body)
	}
	// The answer leaves before it is counted.
	waitUntil(t, "all counted", func() bool { return r.endpoints[0].stats.snapshot().NumRequests == 5 })
	stats := discover[micro.Stats](t, r, "$SRV.STATS.pgbridge")
	if stats.Type != micro.StatsResponseType || stats.Started.IsZero() || len(stats.Endpoints) != 1 {
		t.Fatalf("STATS = %+v", stats)
	}
	e := stats.Endpoints[0]
	if e.Name != "do" || e.Subject != "pgbridge.do.>" || e.NumRequests != 5 || e.NumErrors != 2 || e.LastError != "422:sql_error" {
		t.Errorf("STATS endpoint = %+v", e)
	}
	if e.ProcessingTime <= 0 || e.AverageProcessingTime != e.ProcessingTime/5 {
		t.Errorf("STATS times = %s, %s", e.ProcessingTime, e.AverageProcessingTime)
	}
}

// sample returns the count in a family that has the label value, 0 if none.
func sample(t *testing.T, registry *prometheus.Registry, family, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == family && l.GetValue() == label {
					return m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
		}
	}
	return 0
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{Name: "do", Subject: "pgbridge.do.>", Handler: Each(failIfAsked)})
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(r.Service); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"", "fail", ""} {
		request(t, r.client, "pgbridge.do.x", body)
	}
	if err := r.client.PublishRequest("pgbridge.do.x", "elsewhere", nil); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "counted", func() bool {
		return sample(t, registry, "pgbridge_requests_total", "ok") == 2 &&
			sample(t, registry, "pgbridge_requests_total", "sql_error") == 1 &&
			sample(t, registry, "pgbridge_request_duration_seconds", "do") == 3 &&
			sample(t, registry, "pgbridge_requests_dropped_total", dropReplySubject) == 1
	})
}
