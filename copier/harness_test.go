package copier_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// world is one in which copies are served.
type world struct {
	*harness.World
	requests *nats.Conn
	js       jetstream.JetStream // of the client
	logs     *observer.ObservedLogs
	stop     func() error
	runner   *txrunner.Runner
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
	w := &world{World: harness.New(t, o.scripts)}
	if o.schema != "" {
		w.SQL(o.schema)
	}
	var err error
	if w.js, err = jetstream.New(w.Client); err != nil {
		t.Fatal(err)
	}
	o.url, o.pgURL = w.NATS.URL(), w.Postgres
	if o.link != nil {
		o.link(w)
	}
	w.serve(o)
	return w
}

func (w *world) serve(o options) {
	w.T.Helper()
	w.requests = harness.Requests(w.T, o.url)
	cc := copier.Config{Requests: w.requests, ProgressEvery: -1}
	if o.copier != nil {
		o.copier(&cc)
	}
	c, err := copier.New(cc)
	if err != nil {
		w.T.Fatal(err)
	}
	running := w.Serve(func(rc *txrunner.Config) {
		rc.ConnString, rc.Requests, rc.Extensions = o.pgURL, w.requests, []txrunner.Extension{c.Extension()}
		if o.runner != nil {
			o.runner(rc)
		}
	})
	w.logs, w.stop, w.runner = running.Logs, running.Stop, running.Runner
}

// rows counts a table's.
func (w *world) rows(table string) int64 {
	w.T.Helper()
	return testenv.Value[int64](w.T, w.Postgres, "SELECT count(*) FROM "+table)
}

// copierConfig is what a test may change.
type copierConfig = copier.Config

// download is a copy out as its client has it in the end.
type download struct {
	opening harness.Reply
	data    []byte
	chunks  int
	end     harness.Reply
	Error   *harness.Failure
}

// download copies out, acknowledging everything.
func (w *world) download(to, body string) download {
	w.T.Helper()
	return collect(w.Request(w.Client, to, body))
}

func collect(i *harness.Inbox) download {
	i.W.T.Helper()
	d := download{opening: i.Next()}
	if d.Error = d.opening.Error; d.Error != nil {
		return d
	}
	for {
		r := i.Next()
		switch {
		case r.Error != nil:
			d.Error = r.Error
		case len(r.Body) == 0:
			d.end = r
			d.check(i.W.T)
			return d
		default:
			d.chunks++
			if seq := r.Header.Get(service.HeaderSeq); seq != strconv.Itoa(d.chunks) {
				i.W.T.Fatalf("chunk %s, want %d", seq, d.chunks)
			}
			d.data = append(d.data, r.Body...)
			i.Ack(r)
		}
	}
}

// check compares what has come with what the end says.
func (d *download) check(t testing.TB) {
	t.Helper()
	size, digest := d.end.Header.Get(service.HeaderBytes), d.end.Header.Get(service.HeaderDigest)
	if d.Error != nil {
		if size != "" || digest != "" {
			t.Errorf("the end after an error says %v", d.end.Header)
		}
		return
	}
	h := sha256.New()
	h.Write(d.data)
	if size != strconv.Itoa(len(d.data)) || !api.SameDigest(h, digest) {
		t.Errorf("%d bytes have come, the end says %v", len(d.data), d.end.Header)
	}
}

// upload is a copy in as its client has it.
type upload struct {
	w       *world
	opening harness.Reply
	to      string
	seq     int
}

func (w *world) upload(to, body string) *upload {
	w.T.Helper()
	u := &upload{w: w, opening: w.Ask(to, body)}
	u.to = u.opening.Text("data")
	return u
}

// send sends the next chunk and waits for its answer.
func (u *upload) send(data string, headers ...string) harness.Reply {
	u.w.T.Helper()
	u.seq++
	return u.w.Ask(u.to, data, append([]string{service.HeaderSeq, strconv.Itoa(u.seq)}, headers...)...)
}

// all sends data in chunks of so many bytes, and the end.
func (u *upload) all(data []byte, size int) harness.Reply {
	u.w.T.Helper()
	h := sha256.New()
	h.Write(data)
	for len(data) > 0 {
		n := min(size, len(data))
		u.send(string(data[:n])).Good(u.w.T)
		data = data[n:]
	}
	return u.send("", service.HeaderDigest, api.FormatDigest(h))
}

// lines are rows of two columns in the text format.
func lines(from, to int) []byte {
	var b bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%d\tname %d\n", i, i)
	}
	return b.Bytes()
}

// limited is a context that ends when a test has waited for too long.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	t.Cleanup(cancel)
	return ctx
}
