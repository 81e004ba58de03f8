package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/internal/api"
)

func testItem(t interface{ Fatal(...any) }, channel string, c RouteOptions, payload string) *Item {
	r, err := NewRoute(channel, "p", c)
	if err != nil {
		t.Fatal(err)
	}
	return &Item{
		Route: r, Payload: payload, PID: 4711, N: 7, Epoch: &Epoch{ID: "0123456789abcdef"},
		Received: time.Date(2026, 11, 22, 12, 0, 0, 1000, time.FixedZone("", 2*60*60)),
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	const gap = `{"channel":"orders","reason":"started","since":null,"until":"2026-11-22T10:00:00Z","dropped":null}`
	tests := []struct {
		name, channel string
		config        RouteOptions
		payload       string
		want          nats.Msg
	}{
		{"raw", "orders", RouteOptions{}, `{"id": 7}`, nats.Msg{Subject: "p.event.orders", Data: []byte(`{"id": 7}`)}},
		{"raw, empty", "orders", RouteOptions{}, "", nats.Msg{Subject: "p.event.orders"}},
		{"raw, encoded token", "a.b", RouteOptions{}, "x",
			nats.Msg{Subject: "p.event.a%2Eb", Data: []byte("x"), Header: nats.Header{"Pgbridge-Channel": {"a.b"}}}},
		{"raw, template", "orders", RouteOptions{Subject: "x.{payload.a}"}, `{"a":1}`,
			nats.Msg{Subject: "x.1", Data: []byte(`{"a":1}`), Header: nats.Header{"Pgbridge-Channel": {"orders"}}}},
		{"json", "orders", RouteOptions{Envelope: EnvelopeJSON}, `{"id": 7}`, nats.Msg{Subject: "p.event.orders",
			Data:   []byte(`{"channel":"orders","payload":{"id": 7},"pid":4711,"id":"ID","received_at":"2026-11-22T10:00:00.000001Z"}`),
			Header: nats.Header{"Content-Type": {"application/json"}}}},
		{"cloudevents", "orders", RouteOptions{Envelope: EnvelopeCloudEvents}, "plain \"text\"", nats.Msg{Subject: "p.event.orders",
			Data: []byte(`{"specversion":"1.0","id":"ID","source":"/p/db","type":"io.pgbridge.notification","subject":"orders",` +
				`"time":"2026-11-22T10:00:00.000001Z","data":"plain \"text\"","datacontenttype":"text/plain","pid":4711}`),
			Header: nats.Header{"Content-Type": {"application/cloudevents+json"}}}},
	}
	e := NewEncoder("p", "db")
	for _, tt := range tests {
		it := testItem(t, tt.channel, tt.config, tt.payload)
		checkMessage(t, tt.name, e.Encode(it, "ID"), &tt.want)
		it.Kind, it.Gap = KindGap, &api.Gap{Channel: "orders", Reason: api.ReasonStarted, Until: it.Received.Truncate(time.Second).UTC()}
		checkMessage(t, tt.name+", gap", e.Encode(it, "ID"), &nats.Msg{Subject: it.Route.GapSubject, Data: []byte(gap),
			Header: nats.Header{"Pgbridge-Channel": {tt.channel}, "Content-Type": {"application/json"}}})
	}
}

func checkMessage(t *testing.T, name string, got, want *nats.Msg) {
	t.Helper()
	if got.Subject != want.Subject || string(got.Data) != string(want.Data) {
		t.Errorf("%s: %s on %s, want %s on %s", name, got.Data, got.Subject, want.Data, want.Subject)
	}
	if g, w := fmt.Sprint(got.Header), fmt.Sprint(want.Header); g != w {
		t.Errorf("%s: header %s, want %s", name, g, w)
	}
}

// payloads are what PostgreSQL sends: mostly text, often JSON, and in a
// database with another encoding any bytes at all.
func payloads() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[ \n]?(\{"a":(1|"é"|null|\[\]|\{"b":1e5\})\}|-?[0-9]{1,30}|true|null|"[a-z\\"]*")[ \t]?x?`),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
	)
}

// TestEnvelopesHoldAnyPayload: an envelope is JSON whatever it holds, and what it holds
// comes out as it went in.
func TestEnvelopesHoldAnyPayload(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		payload := payloads().Draw(t, "payload")
		channel := rapid.StringMatching(`["\\ a-zé<&.]{1,20}`).Draw(t, "channel")
		envelope := rapid.SampledFrom([]Envelope{EnvelopeJSON, EnvelopeCloudEvents}).Draw(t, "envelope")
		e := NewEncoder("p", rapid.String().Draw(t, "database"))
		body := e.Encode(testItem(t, channel, RouteOptions{Envelope: envelope}, payload), "ID").Data
		if !utf8.Valid(body) {
			t.Fatalf("%q is not UTF-8", body)
		}
		var got struct {
			Channel, Subject, ID, Datacontenttype string
			Payload, Data                         json.RawMessage
			PayloadBytes                          []byte `json:"payload_base64"`
			DataBytes                             []byte `json:"data_base64"`
			PID                                   int
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if got.Channel+got.Subject != channel || got.ID != "ID" || got.PID != 4711 {
			t.Fatalf("%s: channel %q, id %q, pid %d", body, got.Channel+got.Subject, got.ID, got.PID)
		}
		wantType := "text/plain"
		switch embedded := slices.Concat(got.Payload, got.Data); {
		case !utf8.ValidString(payload):
			wantType = "application/octet-stream"
			if bytes := string(slices.Concat(got.PayloadBytes, got.DataBytes)); bytes != payload || len(embedded) > 0 {
				t.Fatalf("embedded %q and %s, want the bytes %q alone", bytes, embedded, payload)
			}
		case json.Valid([]byte(payload)):
			wantType = "application/json"
			checkEmbedded(t, embedded, payload, true)
		default:
			checkEmbedded(t, embedded, payload, false)
		}
		if envelope == EnvelopeCloudEvents && got.Datacontenttype != wantType {
			t.Fatalf("datacontenttype = %q, want %q", got.Datacontenttype, wantType)
		}
	})
}

func checkEmbedded(t *rapid.T, embedded json.RawMessage, payload string, isJSON bool) {
	if isJSON {
		if string(embedded) != strings.Trim(payload, " \t\r\n") {
			t.Fatalf("embedded %s, want exactly %s", embedded, payload)
		}
		return
	}
	var text string
	if err := json.Unmarshal(embedded, &text); err != nil || text != payload {
		t.Fatalf("embedded %s, want the string %q (%v)", embedded, payload, err)
	}
}

func TestRawIsExactlyThePayload(t *testing.T) {
	t.Parallel()
	e := NewEncoder("p", "db")
	rapid.Check(t, func(t *rapid.T) {
		payload := payloads().Draw(t, "payload")
		if got := e.Encode(testItem(t, "c", RouteOptions{}, payload), ""); string(got.Data) != payload || len(got.Header) != 0 {
			t.Fatalf("encode() = %q with header %v, want %q alone", got.Data, got.Header, payload)
		}
	})
}

// TestEventID: every part counts, and nothing else does.
func TestEventID(t *testing.T) {
	t.Parallel()
	first := testItem(t, "a.b", RouteOptions{}, "payload")
	const want = "0123456789abcdef.a%2Eb.7.3d0f453b73222c5c"
	again := testItem(t, "a.b", RouteOptions{Stored: true, Envelope: EnvelopeJSON}, "payload")
	again.PID, again.Received, again.Epoch = 1, time.Time{}, &Epoch{ID: first.Epoch.ID, Time: time.Unix(1, 0)}
	if got := ID(first); got != ID(again) {
		t.Errorf("eventID() = %s and %s for what is one event", got, ID(again))
	} else if got != want {
		t.Errorf("eventID() = %s, want %s as in every version", got, want)
	}
	ids := map[string]bool{ID(first): true}
	for _, change := range []func(*Item){
		func(it *Item) { it.Epoch = &Epoch{ID: "fedcba9876543210"} },
		func(it *Item) { it.N++ },
		func(it *Item) { it.Payload += "x" },
		func(it *Item) { it.Route = testItem(t, "ab", RouteOptions{}, "").Route },
	} {
		other := *first
		change(&other)
		if id := ID(&other); ids[id] {
			t.Errorf("two events have the id %s", id)
		} else {
			ids[id] = true
		}
	}
}

func TestEncodeAllocations(t *testing.T) { // not parallel: it counts for the whole process
	e := NewEncoder("p", "db")
	payload := `{"id": 7, "name": "` + strings.Repeat("x", 180) + `"}`
	tests := []struct {
		name   string
		config RouteOptions
		id     bool
		most   float64
	}{
		{"raw", RouteOptions{}, false, 0},
		{"raw with an id", RouteOptions{}, true, 1},
		{"json", RouteOptions{Envelope: EnvelopeJSON}, true, 2},
		{"cloudevents", RouteOptions{Envelope: EnvelopeCloudEvents}, true, 4},
	}
	for _, tt := range tests {
		it := testItem(t, "orders", tt.config, payload)
		n := testing.AllocsPerRun(100, func() {
			id := ""
			if tt.id {
				id = ID(it)
			}
			e.Encode(it, id)
			if tt.id {
				e.Set(HeaderID, id)
				e.Set(HeaderMsgID, id)
			}
		})
		if n > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, n, tt.most)
		}
	}
}
