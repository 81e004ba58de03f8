package event

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func durableItem(t *testing.T, o RouteOptions) *Item {
	t.Helper()
	o.Durable = true
	r, err := NewRoute("billing", "pgbridge", o)
	if err != nil {
		t.Fatal(err)
	}
	return &Item{Route: r, Payload: `{"n":1}`, Origin: &Origin{
		LSN: "0/16B3748", Committed: time.Date(2026, 11, 22, 10, 0, 0, 1000, time.UTC),
		Header: map[string]string{"traceparent": "00-1", "region": "eu west"},
	}}
}

func TestDurableEventTellsItsOrigin(t *testing.T) {
	t.Parallel()
	for envelope, committed := range map[Envelope]string{EnvelopeJSON: "committed_at", EnvelopeCloudEvents: "committedat"} {
		m := NewEncoder("pgbridge", "app").Encode(durableItem(t, RouteOptions{Envelope: envelope}), "the id")
		var body map[string]any
		if err := json.Unmarshal(m.Data, &body); err != nil {
			t.Fatalf("%s: %v", m.Data, err)
		}
		if _, has := body["pid"]; has || body["lsn"] != "0/16B3748" || body[committed] != "2026-11-22T10:00:00.000001Z" || body["id"] != "the id" {
			t.Errorf("%s: %s", envelope, m.Data)
		}
	}
}

func TestDurableEventCarriesItsHeaders(t *testing.T) {
	t.Parallel()
	e := NewEncoder("pgbridge", "app")
	m := e.Encode(durableItem(t, RouteOptions{Envelope: EnvelopeRaw}), "id")
	want := map[string][]string{"traceparent": {"00-1"}, "region": {"eu west"}}
	if !reflect.DeepEqual(map[string][]string(m.Header), want) || string(m.Data) != `{"n":1}` {
		t.Errorf("headers %v, body %s", m.Header, m.Data)
	}
	bare := durableItem(t, RouteOptions{Envelope: EnvelopeRaw})
	bare.Origin.Header = nil
	if m := e.Encode(bare, "id"); len(m.Header) > 0 {
		t.Errorf("headers %v of the event before", m.Header)
	}
}

// Whoever writes events names their headers: none is kept once its event is done with.
func TestHeadersDoNotPileUp(t *testing.T) {
	t.Parallel()
	e := NewEncoder("pgbridge", "app")
	it := durableItem(t, RouteOptions{Envelope: EnvelopeJSON})
	e.Encode(it, "id")
	kept := len(e.values)
	for i := range 1000 {
		it.Origin.Header = map[string]string{fmt.Sprint("name-", i): "x"}
		if m := e.Encode(it, "id"); m.Header.Get(fmt.Sprint("name-", i)) != "x" {
			t.Fatalf("headers %v", m.Header)
		}
	}
	if len(e.values) != kept || len(e.msg.Header) != 2 {
		t.Errorf("memory for %d headers is kept, and the message has %d, want %d and 2", len(e.values), len(e.msg.Header), kept)
	}
}

// What the writer of an event gives it is memory, wherever it stands.
func TestHeadersCount(t *testing.T) {
	t.Parallel()
	it := durableItem(t, RouteOptions{})
	bare := *it
	bare.Origin = nil
	it.Origin.Header = map[string]string{"name": strings.Repeat("x", 1000), strings.Repeat("y", 500): ""}
	if n, least := it.Size(), bare.Size()+1504; n < least {
		t.Errorf("Size() = %d with headers of 1504 bytes, want %d at least", n, least)
	}
	it.Origin.Header = map[string]string{}
	for i := range 1000 {
		it.Origin.Header[strconv.Itoa(i)] = ""
	}
	if n := it.Size(); n < 50_000 {
		t.Errorf("Size() = %d with a thousand headers", n)
	}
}

func TestTemplateTakesHeaders(t *testing.T) {
	t.Parallel()
	it := durableItem(t, RouteOptions{Subject: "audit.{header.region}.{header.absent}.{payload.n}"})
	if got := it.Route.subjectFor(it); got != "audit.eu%20west._.1" {
		t.Errorf("subject = %s", got)
	}
	if got := it.Route.Pattern(); got != "audit.*.*.*" {
		t.Errorf("pattern = %s", got)
	}
	for _, o := range []RouteOptions{{Subject: "audit.{header.region}"}, {Subject: "audit.{header.}", Durable: true}, {Subject: "{header.a}.x", Durable: true}} {
		if _, err := NewRoute("billing", "pgbridge", o); err == nil {
			t.Errorf("a route with %+v is accepted", o)
		}
	}
}
