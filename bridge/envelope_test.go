package bridge_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
)

func TestEnvelopes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		payload string
		want    any // decoded
		isJSON  bool
	}{
		{`{"id": 7, "big": 12345678901234567890, "text": "ü<>&☃"}`, map[string]any{"id": json.Number("7"), "big": json.Number("12345678901234567890"), "text": "ü<>&☃"}, true},
		{"{\n\t\"pretty\": []\n}", map[string]any{"pretty": []any{}}, true},
		{`7`, json.Number("7"), true},
		{`"quoted"`, "quoted", true},
		{`null`, nil, true},
		{`plain`, "plain", false},
		{``, "", false},
		{`{"id": 7`, `{"id": 7`, false},
		{`{"id": 7} tail`, `{"id": 7} tail`, false},
		{"say \"hi\"\n\t\\ \u2028 \x01 </script>", "say \"hi\"\n\t\\ \u2028 \x01 </script>", false},
	}
	for _, delivery := range deliveries() {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			launch(t, w.config(t, map[string]bridge.Channel{
				"a.json":   {Delivery: delivery, Envelope: bridge.EnvelopeJSON},
				`c"events`: {Delivery: delivery, Envelope: bridge.EnvelopeCloudEvents},
			})).ready(t)
			writer := newWriter(t, w.pg, "")
			began := time.Now()
			for _, tt := range cases {
				writer.notify(t, "a.json", tt.payload)
				writer.notify(t, `c"events`, tt.payload)
			}
			pid := json.Number(fmt.Sprint(writer.conn.PgConn().PID()))
			ids := map[string]bool{}
			w.await(t, "pgbridge.event.c%22events", len(cases))
			for i, m := range w.heardOn(t, "pgbridge.event.a%2Ejson", len(cases)) {
				checkFields(t, m, "received_at", began, ids, map[string]any{
					"channel": "a.json", "payload": cases[i].want, "pid": pid,
				})
				checkHeader(t, m, "application/json", delivery)
			}
			for i, m := range w.heardOn(t, "pgbridge.event.c%22events", len(cases)) {
				contentType := "text/plain"
				if cases[i].isJSON {
					contentType = "application/json"
				}
				checkFields(t, m, "time", began, ids, map[string]any{
					"specversion": "1.0", "source": "/pgbridge/" + databaseOf(t, w.pg), "type": "io.pgbridge.notification",
					"subject": `c"events`, "datacontenttype": contentType, "data": cases[i].want, "pid": pid,
				})
				checkHeader(t, m, "application/cloudevents+json", delivery)
			}
			if len(ids) != 2*len(cases) {
				t.Errorf("%d different ids of %d events", len(ids), 2*len(cases))
			}
		})
	}
}

// checkFields checks an envelope's fields, all of them, and notes its id.
func checkFields(t *testing.T, m *nats.Msg, moment string, began time.Time, ids map[string]bool, want map[string]any) {
	t.Helper()
	got := decode(t, string(m.Data))
	id, _ := got["id"].(string)
	text, _ := got[moment].(string)
	at, err := time.Parse("2006-01-02T15:04:05.000000Z", text)
	if err != nil || at.Before(began.Truncate(time.Microsecond)) || at.After(time.Now()) {
		t.Errorf("%s of %s: want RFC 3339 with microseconds, between the write and now", moment, m.Data)
	}
	if id == "" {
		t.Errorf("%s has no id", m.Data)
	}
	for _, header := range []string{"Pgbridge-Id"} {
		if stored := m.Header.Get(header); stored != "" && stored != id {
			t.Errorf("%s has the header %s: %q", m.Data, header, stored)
		}
	}
	ids[id] = true
	delete(got, "id")
	delete(got, moment)
	if g, w := fmt.Sprintf("%#v", sorted(got)), fmt.Sprintf("%#v", sorted(want)); g != w {
		t.Errorf("envelope %s holds\n%s, want\n%s", m.Data, g, w)
	}
}

// sorted is an object as pairs in the order of its keys.
func sorted(object map[string]any) (pairs []any) {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		value := object[key]
		if inner, ok := value.(map[string]any); ok {
			value = sorted(inner)
		}
		pairs = append(pairs, key, value)
	}
	return pairs
}

func checkHeader(t *testing.T, m *nats.Msg, contentType string, delivery bridge.Delivery) {
	t.Helper()
	if got := m.Header.Get("Content-Type"); got != contentType {
		t.Errorf("%s has the content type %q, want %q", m.Subject, got, contentType)
	}
	for _, header := range []string{"Pgbridge-Id"} {
		if got := m.Header.Get(header) != ""; got != (delivery == bridge.DeliveryJetStream) {
			t.Errorf("%s by %s has the header %s: %t", m.Subject, delivery, header, got)
		}
	}
}

// decode reads a JSON object and keeps its numbers as written.
func decode(t *testing.T, body string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil || d.More() {
		t.Fatalf("decode %q: %v", body, err)
	}
	return object
}
