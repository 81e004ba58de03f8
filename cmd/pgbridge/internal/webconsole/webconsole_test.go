package webconsole

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

const hostile = "<img src=x onerror=alert(1)>"

func TestMain(m *testing.M) { testenv.Main(m) }

// newBridge is one that does not run.
func newBridge(t *testing.T, channels map[string]bridge.Channel) *bridge.Bridge {
	t.Helper()
	b, err := bridge.New(bridge.Config{ConnString: "postgres://nobody@127.0.0.1:1/x", Events: testenv.NATS(t).Connect(t), Channels: channels})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newConsole(t *testing.T, channels map[string]bridge.Channel) *Console {
	t.Helper()
	return New(Config{Bridge: newBridge(t, channels), Problems: func() []string { return []string{"marker: " + hostile} }, Logger: zap.NewNop(), Prefix: "pgbridge"})
}

func read[T any](t *testing.T, h http.Handler, query string) (value T) {
	t.Helper()
	r := ask(h, "/console/api/view?"+query, "localhost")
	body := r.Body.Bytes()
	if r.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", query, r.Code, body)
	}
	if bytes.ContainsAny(body, "<>") {
		t.Errorf("%s: the JSON holds < or >, which some could take for a page: %.200s", query, body)
	}
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// Ten thousand channels are sent in parts, by any order, whatever they are called.
func TestChannels(t *testing.T) {
	t.Parallel()
	channels := map[string]bridge.Channel{hostile: {}}
	for i := range 9_999 {
		channels[fmt.Sprintf("c%04d", i)] = bridge.Channel{}
	}
	h := handlerOf(newConsole(t, channels))
	type page = Rows[bridge.ChannelState]
	first := read[page](t, h, "view=channels&limit=1000000")
	if first.Total != 10_000 || first.Matched != 10_000 || len(first.Rows) != maxRows || first.Rows[0].Name != hostile {
		t.Errorf("the first page has %d of %d rows, the first is %q", len(first.Rows), first.Total, first.Rows[0].Name)
	}
	last := read[page](t, h, "view=channels&offset=9990&limit=50")
	if len(last.Rows) != 10 || last.Rows[9].Name != "c9998" {
		t.Errorf("the last page has %d rows", len(last.Rows))
	}
	if beyond := read[page](t, h, "view=channels&offset=99999999"); len(beyond.Rows) != 0 || beyond.Offset != 10_000 {
		t.Errorf("beyond the end are %d rows from %d", len(beyond.Rows), beyond.Offset)
	}
	if some := read[page](t, h, "view=channels&filter=C123&sort=received"); some.Matched != 10 || some.Rows[0].Name != "c1230" {
		t.Errorf("the filter lets %d through", some.Matched)
	}
	if one := read[bridge.ChannelState](t, h, "view=channel&name=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E"); one.Name != hostile {
		t.Errorf("it is %q", one.Name)
	}
	for query, want := range map[string]int{
		"view=channels&offset=-1": 400, "view=channels&limit=x": 400, "view=channels&sort=payload": 400, "view=channel&name=none": 404,
		"view=": 404, "view=../../etc": 404, "view=scripts": 404, "view=transactions": 404, "view=jobs": 404,
	} {
		if got := ask(h, "/console/api/view?"+query, "localhost").Code; got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
}

func TestOverview(t *testing.T) {
	t.Parallel()
	h := handlerOf(newConsole(t, map[string]bridge.Channel{"a": {}}))
	o := read[Overview](t, h, "view=overview")
	if o.Bridge.State == "" || o.Bridge.Events.Status != "CONNECTED" || o.Bridge.Listening || o.Runner != nil || len(o.Problems) != 1 || o.Problems[0] != "marker: "+hostile {
		t.Errorf("overview %+v", o)
	}
	if d := read[struct{ Problem string }](t, h, "view=durable"); d.Problem == "" || strings.Contains(d.Problem, "127.0.0.1") {
		t.Errorf("without PostgreSQL it says %q", d.Problem)
	}
}

// Payloads are for those who turned them on.
func TestPayloadsAreOff(t *testing.T) {
	t.Parallel()
	c := newConsole(t, map[string]bridge.Channel{"a": {}})
	bus := testenv.NATS(t)
	c.config.Watch = func() (*nats.Conn, error) { return nats.Connect(bus.URL()) }
	if got := ask(handlerOf(c), "/console/api/tail?channel=a", "localhost").Code; got != http.StatusForbidden {
		t.Errorf("a tail without payloads: %d, want 403", got)
	}
}

// served is a console on a real server with the limits of the program's own.
func served(t *testing.T, c *Console) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handlerOf(c))
	s.Config.ReadTimeout, s.Config.WriteTimeout = 200*time.Millisecond, 300*time.Millisecond
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// follow opens a stream; events are sent to what it returns.
func follow(ctx context.Context, t *testing.T, url string) <-chan string {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r) //nolint:bodyclose // the goroutine closes it
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		t.Fatalf("%s: %d %s", url, answer.StatusCode, body)
	}
	events := make(chan string)
	go func() {
		defer close(events)
		defer answer.Body.Close()
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			if line, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				select {
				case events <- line:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return events
}

func nextEvent(t *testing.T, events <-chan string) string {
	t.Helper()
	select {
	case line, ok := <-events:
		if !ok {
			t.Fatal("the stream has ended")
		}
		return line
	case <-time.After(30 * time.Second):
		t.Fatal("no event came")
	}
	return ""
}

// A stream goes on beyond the limits that the server has for an answer, and says
// what has changed.
func TestStream(t *testing.T) {
	t.Parallel()
	c := newConsole(t, map[string]bridge.Channel{"a": {}})
	s := served(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events := follow(ctx, t, s.URL+"/console/api/stream?view=channels")
	if first := nextEvent(t, events); !strings.Contains(first, `"Name":"a"`) {
		t.Errorf("first %s", first)
	}
	testenv.Wait(t, 30*time.Second, "both limits to be over", func() bool { return time.Since(c.looks.channels.at) < time.Minute })
	overview := follow(ctx, t, s.URL+"/console/api/stream?view=overview") // it changes with the time
	for range 3 {
		nextEvent(t, overview)
	}
	if err := c.config.Bridge.Reload(map[string]bridge.Channel{"b": {}}); err != nil {
		t.Fatal(err)
	}
	if next := nextEvent(t, events); !strings.Contains(next, `"Name":"b"`) {
		t.Errorf("next %s", next)
	}
}

// A crowd of viewers is refused, and places become free again.
func TestCrowdOfViewers(t *testing.T) {
	t.Parallel()
	c := newConsole(t, nil)
	s := served(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	for range maxStreams {
		nextEvent(t, follow(ctx, t, s.URL+"/console/api/stream?view=channels"))
	}
	answer, err := http.Get(s.URL + "/console/api/stream?view=channels")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d", answer.StatusCode)
	}
	if page, err := http.Get(s.URL + "/console/api/view?view=channels"); err != nil || page.StatusCode != http.StatusOK {
		t.Errorf("beside the crowd: %v", err)
	} else {
		page.Body.Close()
	}
	cancel()
	testenv.Wait(t, 30*time.Second, "all places to be free", func() bool { return len(c.streams) == 0 })
}

// Who watches events has a connection of its own, so that however many come, NATS cuts
// nothing else. Few may watch, and other views go on beside them.
func TestCrowdOfTails(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	c := newConsole(t, map[string]bridge.Channel{"a": {}})
	c.config.Payloads, c.config.Requests = true, bus.Connect(t)
	opened := make(chan *nats.Conn, 2*maxTails)
	c.config.Watch = func() (*nats.Conn, error) {
		nc, err := nats.Connect(bus.URL(), nats.NoReconnect())
		opened <- nc
		return nc, err
	}
	s := httptest.NewServer(handlerOf(c)) // a connection to NATS takes longer than the limits of served
	t.Cleanup(s.Close)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all []<-chan string
	for range maxTails {
		tail := follow(ctx, t, s.URL+"/console/api/tail?channel=a")
		nextEvent(t, tail)
		all = append(all, tail)
	}
	if n := c.config.Requests.NumSubscriptions(); n != 0 {
		t.Errorf("%d subscriptions are on the connection of requests", n)
	}
	for path, want := range map[string]int{"tail?channel=a": http.StatusServiceUnavailable, "view?view=channels": http.StatusOK} {
		if got := ask(handlerOf(c), "/console/api/"+path, "localhost").Code; got != want {
			t.Errorf("%s beside the crowd: %d, want %d", path, got, want)
		}
	}
	nextEvent(t, follow(ctx, t, s.URL+"/console/api/stream?view=channels"))
	(<-opened).Close() // as NATS would
	if last := nextEvent(t, all[0]); !strings.Contains(last, "has ended") {
		t.Errorf("whose connection was cut is told %s", last)
	}
	cancel()
	testenv.Wait(t, 30*time.Second, "all places to be free", func() bool { return len(c.tails) == 0 && len(c.streams) == 0 })
}

// Events come as they were sent, cut where they are long, and only those that match.
func TestTail(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	c := newConsole(t, map[string]bridge.Channel{"a": {}})
	c.config.Payloads, c.config.Watch = true, func() (*nats.Conn, error) { return nats.Connect(bus.URL()) }
	s := httptest.NewServer(handlerOf(c)) // a connection to NATS takes longer than the limits of served
	t.Cleanup(s.Close)
	if r, err := http.Get(s.URL + "/console/api/tail?channel=none"); err != nil || r.StatusCode != http.StatusNotFound {
		t.Errorf("no such channel: %v", err)
	} else {
		r.Body.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events := follow(ctx, t, s.URL+"/console/api/tail?channel=a&filter=WANTED")
	nextEvent(t, events)
	nc := bus.Connect(t)
	long := "wanted " + strings.Repeat("ä", maxShown)
	for _, payload := range []string{"other", "it is wanted <b>", long, "wanted \xff"} {
		if err := nc.Publish("pgbridge.event.a", []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	var all []Event
	for len(all) < 3 {
		var some Tailed
		if err := json.Unmarshal([]byte(nextEvent(t, events)), &some); err != nil {
			t.Fatal(err)
		}
		all = append(all, some.Events...)
	}
	if all[0].Payload != "it is wanted <b>" || all[0].Subject != "pgbridge.event.a" || all[0].Cut {
		t.Errorf("first %+v", all[0])
	}
	if !all[1].Cut || all[1].Bytes != len(long) || !strings.HasPrefix(long, all[1].Payload) || len(all[1].Payload) < maxShown-4 {
		t.Errorf("the long one has %d bytes of %d", len(all[1].Payload), all[1].Bytes)
	}
	if !all[2].Binary || all[2].Payload != "" {
		t.Errorf("what is no text is %+v", all[2])
	}
}

// The page runs no script that stands in it, and loads nothing from elsewhere.
func TestPageIsStatic(t *testing.T) {
	t.Parallel()
	page, err := fs.ReadFile(static, "static/index.html")
	if err != nil {
		t.Fatal(err)
	}
	if inline := regexp.MustCompile(`<script[^>]*>[^<]|<style|\son[a-z]+=|style=|javascript:`).Find(page); inline != nil {
		t.Errorf("the page holds %q", inline)
	}
	err = fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(static, name)
		if err != nil {
			return err
		}
		if !strings.Contains(name, "/vendor/") {
			if found := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|setAttribute\("style|https?://[^w]`).Find(text); found != nil {
				t.Errorf("%s holds %q", name, found)
			}
		}
		path := "/" + strings.TrimPrefix(strings.Replace(name, "static/", "console/", 1), "/")
		if name == "static/index.html" {
			path = "/"
		}
		r := ask(handlerOf(&Console{}), path, "localhost")
		if r.Code != http.StatusOK || r.Header().Get("ETag") == "" {
			t.Errorf("%s: %d", path, r.Code)
		}
		if again := ask(handlerOf(&Console{}), path, "localhost", "If-None-Match", r.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("%s again: %d", path, again.Code)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
