package copier_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

const patience = 60 * time.Second // for what has to happen

// world is a database, a NATS server, a runner with a copier, and a client.
type world struct {
	t        testing.TB
	pg       string // URL
	nats     *testenv.NATSServer
	folder   string
	requests *nats.Conn
	client   *nats.Conn
	js       jetstream.JetStream
	logs     *observer.ObservedLogs
	stop     func() error
}

// options of a world; the zero value is a good one.
type options struct {
	scripts map[string]string
	schema  string
	copier  func(*copier.Config)
	runner  func(*txrunner.Config)
	link    func(*world) // changes where PostgreSQL and NATS are for the runner
	url     string       // of NATS for the runner
	pgURL   string       // of PostgreSQL for the runner
}

// newWorld starts everything and waits until it is ready.
func newWorld(t testing.TB, o options) *world {
	t.Helper()
	w := &world{t: t, pg: testenv.Postgres(t).NewDatabase(t), nats: testenv.NATS(t), folder: t.TempDir()}
	for name, text := range o.scripts {
		w.write(name, text)
	}
	if o.schema != "" {
		testenv.Exec(t, w.pg, o.schema)
	}
	w.client = w.nats.Connect(t, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	var err error
	if w.js, err = jetstream.New(w.client); err != nil {
		t.Fatal(err)
	}
	o.url, o.pgURL = w.nats.URL(), w.pg
	if o.link != nil {
		o.link(w)
	}
	w.serve(o)
	return w
}

func (w *world) serve(o options) {
	w.t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	w.logs = logs
	w.requests = connect(w.t, o.url)
	cc := copier.Config{Requests: w.requests, ProgressEvery: -1, Logger: zap.New(core)}
	if o.copier != nil {
		o.copier(&cc)
	}
	c, err := copier.New(cc)
	if err != nil {
		w.t.Fatal(err)
	}
	rc := txrunner.Config{
		ConnString: o.pgURL, Scripts: w.folder, ScriptsPoll: -1, StopGrace: 10 * time.Second,
		Requests: w.requests, Extensions: []txrunner.Extension{c.Extension()}, Logger: zap.New(core),
	}
	if o.runner != nil {
		o.runner(&rc)
	}
	runner, err := txrunner.New(rc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.stop = testenv.Run(w.t, logs, runner.Run)
	testenv.Wait(w.t, patience, "the runner to be ready", func() bool { return len(runner.Problems()) == 0 })
}

func connect(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.PermissionErrOnSubscribe(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(20*time.Millisecond), nats.PingInterval(time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// write puts a script into the folder; name is its path without .sql.
func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.folder, name+".sql")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// rows counts a table's.
func (w *world) rows(table string) int64 {
	w.t.Helper()
	return testenv.Value[int64](w.t, w.pg, "SELECT count(*) FROM "+table)
}

// clean fails the test if a backend is still at work, or in a transaction.
func (w *world) clean() {
	w.t.Helper()
	testenv.Wait(w.t, patience, "no backend to be stuck", func() bool {
		return testenv.Value[int64](w.t, w.pg, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'`) == 0
	})
}

// reply is a message as a client sees it.
type reply struct {
	header  nats.Header
	subject string // where to acknowledge it
	body    []byte
	fields  map[string]any
	failure *service.Error
}

func readReply(t testing.TB, m *nats.Msg) reply {
	t.Helper()
	r := reply{header: m.Header, subject: m.Reply, body: m.Data}
	if m.Reply == "" && len(m.Data) > 0 {
		var e struct{ Error *service.Error }
		if json.Unmarshal(m.Data, &r.fields) != nil || json.Unmarshal(m.Data, &e) != nil {
			t.Fatalf("reply %q", m.Data)
		}
		r.failure = e.Error
	}
	return r
}

func (r reply) text(field string) string {
	if s, ok := r.fields[field].(string); ok {
		return s
	}
	return fmt.Sprint(r.fields[field])
}

// wants fails the test unless the reply is an error with this code.
func (r reply) wants(t testing.TB, code service.Code) reply {
	t.Helper()
	if r.failure == nil || r.failure.Code != code {
		t.Fatalf("reply %q %v, want the error %s", r.body, r.header, code)
	}
	return r
}

// good fails the test if the reply is an error.
func (r reply) good(t testing.TB) reply {
	t.Helper()
	if r.failure != nil {
		t.Fatalf("reply %+v", *r.failure)
	}
	return r
}

func subject(s string) string {
	if strings.HasPrefix(s, "pgbridge.") {
		return s
	}
	return "pgbridge." + s
}

// ask sends a request and returns its one reply.
func (w *world) ask(to, body string, headers ...string) reply {
	w.t.Helper()
	m := nats.NewMsg(subject(to))
	m.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	answer, err := w.client.RequestMsg(m, patience)
	if err != nil {
		w.t.Fatalf("request %s: %v", to, err)
	}
	return readReply(w.t, answer)
}

// inbox is a subscription for all replies to one request.
type inbox struct {
	w    *world
	sub  *nats.Subscription
	last reply
}

// copierConfig is what a test may change.
type copierConfig = copier.Config

func (w *world) request(nc *nats.Conn, to, body string) *inbox {
	w.t.Helper()
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		w.t.Fatal(err)
	}
	if err := nc.PublishRequest(subject(to), sub.Subject, []byte(body)); err != nil {
		w.t.Fatal(err)
	}
	return &inbox{w: w, sub: sub}
}

func (i *inbox) next() reply {
	i.w.t.Helper()
	m, err := i.sub.NextMsg(patience)
	if err != nil {
		i.w.t.Fatalf("receive: %v", err)
	}
	i.last = readReply(i.w.t, m)
	return i.last
}

// ackLast acknowledges what has come last.
func (i *inbox) ackLast() { i.ack(i.last) }

func (i *inbox) ack(r reply) {
	i.w.t.Helper()
	if err := i.w.client.Publish(r.subject, nil); err != nil {
		i.w.t.Fatal(err)
	}
}

// download is a copy out as its client has it in the end.
type download struct {
	opening reply
	data    []byte
	chunks  int
	end     reply
	failure *service.Error
}

// download copies out, acknowledging everything.
func (w *world) download(to, body string) download {
	w.t.Helper()
	return w.request(w.client, to, body).collect()
}

func (i *inbox) collect() download {
	i.w.t.Helper()
	d := download{opening: i.next()}
	if d.failure = d.opening.failure; d.failure != nil {
		return d
	}
	for {
		r := i.next()
		switch {
		case r.failure != nil:
			d.failure = r.failure
		case len(r.body) == 0:
			d.end = r
			d.check(i.w.t)
			return d
		default:
			d.chunks++
			if seq := r.header.Get(service.HeaderSeq); seq != strconv.Itoa(d.chunks) {
				i.w.t.Fatalf("chunk %s, want %d", seq, d.chunks)
			}
			d.data = append(d.data, r.body...)
			i.ack(r)
		}
	}
}

// check compares what has come with what the end says.
func (d *download) check(t testing.TB) {
	t.Helper()
	size, digest := d.end.header.Get(service.HeaderBytes), d.end.header.Get(service.HeaderDigest)
	if d.failure != nil {
		if size != "" || digest != "" {
			t.Errorf("the end after an error says %v", d.end.header)
		}
		return
	}
	h := sha256.New()
	h.Write(d.data)
	if size != strconv.Itoa(len(d.data)) || !service.SameDigest(h, digest) {
		t.Errorf("%d bytes have come, the end says %v", len(d.data), d.end.header)
	}
}

// upload is a copy in as its client has it.
type upload struct {
	w       *world
	opening reply
	to      string
	seq     int
}

func (w *world) upload(to, body string) *upload {
	w.t.Helper()
	u := &upload{w: w, opening: w.ask(to, body)}
	u.to = u.opening.text("data")
	return u
}

// send sends the next chunk and waits for its answer.
func (u *upload) send(data string, headers ...string) reply {
	u.w.t.Helper()
	u.seq++
	return u.w.ask(u.to, data, append([]string{service.HeaderSeq, strconv.Itoa(u.seq)}, headers...)...)
}

// all sends data in chunks of so many bytes, and the end.
func (u *upload) all(data []byte, size int) reply {
	u.w.t.Helper()
	h := sha256.New()
	h.Write(data)
	for len(data) > 0 {
		n := min(size, len(data))
		u.send(string(data[:n])).good(u.w.t)
		data = data[n:]
	}
	return u.send("", service.HeaderDigest, service.FormatDigest(h))
}

// lines are rows of two columns in the text format.
func lines(from, to int) []byte {
	var b bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%d\tname %d\n", i, i)
	}
	return b.Bytes()
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

// limited is a context that ends when a test has waited for too long.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
