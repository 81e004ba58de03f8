package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"sigs.k8s.io/yaml"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/api/status"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

const patience = 60 * time.Second

// document is what of asyncapi.yaml the tests look at.
type document struct {
	Components struct {
		Messages map[string]struct {
			Examples []example `json:"examples"`
		} `json:"messages"`
		Schemas struct {
			Gap struct {
				Properties struct {
					Reason struct {
						Enum []api.Reason `json:"enum"`
					} `json:"reason"`
				} `json:"properties"`
			} `json:"gap"`
			Error struct {
				Properties struct {
					Error struct {
						Properties struct {
							Code struct {
								Enum []string `json:"enum"`
							} `json:"code"`
						} `json:"properties"`
					} `json:"error"`
				} `json:"properties"`
			} `json:"error"`
		} `json:"schemas"`
	} `json:"components"`
}

type example struct {
	Name    string            `json:"name"`
	Headers map[string]string `json:"headers"`
	Payload json.RawMessage   `json:"payload"`
}

func asyncapi(t *testing.T) *document {
	t.Helper()
	var d document
	if err := yaml.Unmarshal([]byte(read(t, "asyncapi.yaml")), &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

func (d *document) all() []example {
	var all []example
	for _, name := range slices.Sorted(maps.Keys(d.Components.Messages)) {
		all = append(all, d.Components.Messages[name].Examples...)
	}
	return all
}

func (d *document) example(t *testing.T, name string) example {
	t.Helper()
	for _, e := range d.all() {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("asyncapi.yaml has no example %q", name)
	return example{}
}

func strict(t *testing.T, data []byte, into any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Errorf("%s: %v", data, err)
	}
}

// TestExamplesAreTyped reads the examples into the types of the program.
func TestExamplesAreTyped(t *testing.T) {
	t.Parallel()
	d := asyncapi(t)
	for _, e := range d.Components.Messages["gap"].Examples {
		var g api.Gap
		strict(t, e.Payload, &g)
		if again, err := json.Marshal(g); err != nil || !equal(t, again, e.Payload) {
			t.Errorf("%s becomes %s, %v", e.Payload, again, err)
		}
	}
	for _, e := range d.Components.Messages["error"].Examples {
		var body struct{ Error service.Error }
		strict(t, e.Payload, &body)
		if got, want := e.Headers["Nats-Service-Error-Code"], strconv.Itoa(body.Error.Code.Number()); got != want {
			t.Errorf("%s: number %s, want %s", e.Name, got, want)
		}
	}
	if got := d.Components.Schemas.Gap.Properties.Reason.Enum; !slices.Equal(got, api.Reasons()) {
		t.Errorf("reasons %v, want %v", got, api.Reasons())
	}
}

// TestProseShowsTheExamples finds each JSON message of the prose in asyncapi.yaml.
func TestProseShowsTheExamples(t *testing.T) {
	t.Parallel()
	d := asyncapi(t)
	for _, document := range []string{"events.md", "requests.md", "jobs.md"} {
		for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(read(t, document), -1) {
			if !slices.ContainsFunc(d.all(), func(e example) bool { return equal(t, e.Payload, []byte(block[1])) }) {
				t.Errorf("%s shows what asyncapi.yaml does not: %s", document, block[1])
			}
		}
	}
}

func equal(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return reflect.DeepEqual(x, y)
}

// TestExamplesAreReal compares examples with what a bridge sends: the names of
// headers and of the members of JSON objects.
func TestExamplesAreReal(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	client := bus.Connect(t)
	heard := map[string]*nats.Subscription{}
	for name, subject := range map[string]string{
		"raw":                           "pgbridge.event.orders",
		"raw, JetStream, encoded token": "pgbridge.event.Gr%C3%B6%C3%9Fe%201%2Ex",
		"json":                          "pgbridge.event.json",
		"cloudevents":                   "pgbridge.event.events",
		"gap after a start":             "pgbridge.gap.orders",
	} {
		heard[name] = subscribe(t, client, subject)
	}
	database := serve(t, bus.URL(), map[string]bridge.Channel{
		"orders":    {Notify: true},
		"json":      {Envelope: bridge.EnvelopeJSON},
		"events":    {Envelope: bridge.EnvelopeCloudEvents},
		"Größe 1.x": {Delivery: bridge.DeliveryJetStream},
		"silent":    {},
	})
	for _, channel := range []string{"orders", "json", "events", "Größe 1.x"} {
		testenv.Exec(t, database, "SELECT pg_notify($1, $2)", channel, `{"id": 7}`)
	}
	d := asyncapi(t)
	for name, sub := range heard {
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatalf("receive %s: %v", sub.Subject, err)
		}
		alike(t, d.example(t, name), m)
	}
	for name, subject := range map[string]string{"notified": "pgbridge.notify.orders", "error": "pgbridge.notify.silent"} {
		answer, err := client.Request(subject, d.example(t, "notification").bytes(t), patience)
		if err != nil {
			t.Fatalf("request %s: %v", subject, err)
		}
		alike(t, d.example(t, name), answer)
	}
}

func subscribe(t *testing.T, client *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := client.SubscribeSync(subject)
	if err == nil {
		err = client.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func alike(t *testing.T, e example, m *nats.Msg) {
	t.Helper()
	if got, want := slices.Sorted(maps.Keys(m.Header)), slices.Sorted(maps.Keys(e.Headers)); !slices.Equal(got, want) {
		t.Errorf("%s: headers %v, the example has %v", m.Subject, got, want)
	}
	if e.Payload[0] == '"' { // raw: any bytes
		return
	}
	if got, want := shape(m.Data), shape(e.Payload); !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %s is not made like the example %s", m.Subject, m.Data, e.Payload)
	}
}

// shape is a JSON value with nothing but the names of its members; a list is
// as its first element.
func shape(data []byte) any {
	var members map[string]json.RawMessage
	var list []json.RawMessage
	if json.Unmarshal(data, &list) == nil && len(list) > 0 {
		return []any{shape(list[0])}
	}
	if json.Unmarshal(data, &members) != nil || members == nil {
		return nil
	}
	names := map[string]any{}
	for name, value := range members {
		names[name] = shape(value)
	}
	return names
}

// serve runs a bridge on a new database, whose URL it returns, until the test
// ends.
func serve(t *testing.T, url string, channels map[string]bridge.Channel) string {
	t.Helper()
	database := testenv.Postgres(t).NewDatabase(t)
	b, err := bridge.New(bridge.Config{
		ConnString: database, Events: events(t, url), Channels: channels, Stream: bridge.Stream{Create: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	testenv.Wait(t, patience, "the bridge to be ready", func() bool { return len(b.Problems()) == 0 })
	return database
}

// TestStatusIsTyped reads the examples of what operators are told into the types of
// the program, and writes them again.
func TestStatusIsTyped(t *testing.T) {
	t.Parallel()
	d := asyncapi(t)
	for name, into := range map[string]any{"replica": &status.Replica{}, "channels": &status.Channels{}, "list channels": &status.ChannelsRequest{}} {
		e := d.example(t, name)
		strict(t, e.Payload, into)
		if again, err := json.Marshal(into); err != nil || !equal(t, again, e.Payload) {
			t.Errorf("%s becomes %s, %v", e.Payload, again, err)
		}
	}
}
