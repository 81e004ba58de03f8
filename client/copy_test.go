package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

var export = client.Script{Name: "export_orders", Params: client.Params{"customer": nil}}

func orders(n int) string {
	var b strings.Builder
	b.WriteString("customer,total\n")
	for i := range n {
		fmt.Fprintf(&b, "somebody,%d.00\n", i)
	}
	return b.String()
}

func TestCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	var progressed int64
	data := orders(50000)
	in, err := c.CopyIn(w.ctx(), client.Script{Name: "import_orders"}, strings.NewReader(data), client.CopyOptions{
		ChunkBytes: 10000, WindowBytes: 30000, Progress: func(n int64) { progressed += n },
	})
	w.ok(err)
	if in.Rows != 50000 || in.Bytes != int64(len(data)) || progressed != in.Bytes || w.count("orders") != 50000 {
		t.Errorf("copied in %+v, progress %d, there are %d rows", in, progressed, w.count("orders"))
	}
	progressed = 0
	var out bytes.Buffer
	o, err := c.CopyOut(w.ctx(), export, &out, client.CopyOptions{
		ID: "mine", ChunkBytes: 10000, WindowBytes: 30000, Progress: func(n int64) { progressed += n },
	})
	w.ok(err)
	if o.Rows != 50000 || o.ID != "mine" || o.Bytes != int64(out.Len()) || progressed != o.Bytes || !strings.HasPrefix(o.Digest, "SHA-256=") {
		t.Errorf("copied out %+v, %d bytes, progress %d", o, out.Len(), progressed)
	}
	lines := strings.Split(out.String(), "\n")
	harness.Equal(t, "last line", lines[50000], "50000,somebody,49999.00")

	// Nothing, and the statements around.
	upsert := client.Script{Name: "upsert_orders"}
	in, err = c.CopyIn(w.ctx(), upsert, strings.NewReader("id,customer,total\n1,Ada,5\n"), client.CopyOptions{})
	w.ok(err)
	harness.Equal(t, "result", in.Results[len(in.Results)-1].Command, "INSERT 0 1")
	in, err = c.CopyIn(w.ctx(), upsert, strings.NewReader(""), client.CopyOptions{})
	w.ok(err)
	harness.Equal(t, "rows of nothing", in.Rows, 0)
	w.WantIdle()
}

// TestCopyErrors leaves nothing behind.
func TestCopyErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	importing := client.Script{Name: "import_orders"}
	_, err := c.CopyIn(w.ctx(), importing, strings.NewReader(orders(5000)+"Ada,much\n"), client.CopyOptions{ChunkBytes: 1000})
	if e := w.failure(err, client.CodeSQLError); e.SQLState != "22P02" || !strings.Contains(e.Where, "line 5002") {
		t.Errorf("%+v", e)
	}
	broken := errors.New("the disk is broken")
	_, err = c.CopyIn(w.ctx(), importing, io.MultiReader(strings.NewReader(orders(1000)), failing{broken}), client.CopyOptions{})
	if !errors.Is(err, broken) || errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("a reader that fails: %v", err)
	}
	harness.Equal(t, "orders", w.count("orders"), 0)
	w.SQL("INSERT INTO orders (customer, total) SELECT 'x', g FROM generate_series(1, 100000) g")
	_, err = c.CopyOut(w.ctx(), export, failing{broken}, client.CopyOptions{})
	if !errors.Is(err, broken) || errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("a writer that fails: %v", err)
	}
	if _, err := c.CopyOut(w.ctx(), importing, io.Discard, client.CopyOptions{}); !errors.Is(err, client.ErrDirection) {
		t.Errorf("out of a copy in: %v", err)
	}
	if _, err := c.CopyIn(w.ctx(), export, strings.NewReader(""), client.CopyOptions{}); !errors.Is(err, client.ErrDirection) {
		t.Errorf("into a copy out: %v", err)
	}
	_, err = c.CopyOut(w.ctx(), client.Script{Name: "nowhere"}, io.Discard, client.CopyOptions{})
	w.failure(err, client.CodeNotFound)
	w.WantIdle()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// gate is a reader or writer that waits at one place.
type gate struct {
	data   io.Reader
	after  int // bytes
	passed int
	there  chan struct{}
	open   chan struct{}
}

func newGate(data string, after int) *gate {
	return &gate{data: strings.NewReader(data), after: after, there: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) wait(n int) {
	if before := g.passed; before < g.after && before+n >= g.after {
		close(g.there)
		<-g.open
	}
	g.passed += n
}

func (g *gate) Read(p []byte) (int, error) {
	n, err := g.data.Read(p[:min(len(p), 1000)])
	g.wait(n)
	return n, err
}

func (g *gate) Write(p []byte) (int, error) {
	g.wait(len(p))
	return len(p), nil
}

// TestServerLostInACopy ends what serves, and PostgreSQL's session, in the
// middle of both directions.
func TestServerLostInACopy(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*world){
		"replica": func(w *world) { w.ok(w.stop()) },
		"session": func(w *world) { testenv.TerminateBackend(w, w.Postgres, "%") },
	} {
		for _, way := range []string{"in", "out"} {
			t.Run(way+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, options{})
				w.SQL("INSERT INTO orders (customer, total) SELECT repeat('x', 500), g FROM generate_series(1, 20000) g")
				c := w.client(client.Options{Retries: -1})
				c.SetSilence(200 * time.Millisecond)
				g := newGate(orders(50000), 100000)
				ended := make(chan error, 1)
				ctx := w.ctx()
				go func() {
					var err error
					if way == "in" {
						_, err = c.CopyIn(ctx, client.Script{Name: "import_orders"}, g, client.CopyOptions{ChunkBytes: 10000, WindowBytes: 30000})
					} else {
						_, err = c.CopyOut(ctx, export, g, client.CopyOptions{ChunkBytes: 10000, WindowBytes: 30000})
					}
					ended <- err
				}()
				<-g.there
				lose(w)
				close(g.open)
				err := <-ended
				var e *client.Error
				if err == nil || !errors.As(err, &e) && !errors.Is(err, client.ErrReplicaGone) {
					t.Errorf("the copy ended with %v", err)
				}
				if way == "in" && errors.Is(err, client.ErrOutcomeUnknown) {
					t.Errorf("nothing can have been committed: %v", err)
				}
				harness.Equal(t, "orders", w.count("orders"), 20000)
				w.WantIdle()
			})
		}
	}
}

// TestSlowReader is one that takes longer than the server lets it.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.SQL("INSERT INTO orders (customer, total) SELECT repeat('x', 500), g FROM generate_series(1, 20000) g")
	g := newGate("", 50000)
	ended := make(chan error, 1)
	c, ctx := w.client(client.Options{}), w.ctx()
	go func() {
		_, err := c.CopyOut(ctx, export, g, client.CopyOptions{ChunkBytes: 10000, WindowBytes: 30000, Stall: 100 * time.Millisecond})
		ended <- err
	}()
	<-g.there
	w.WantIdle() // pgbridge has given up
	close(g.open)
	w.failure(<-ended, client.CodeTimeout)
}

// TestSilentInput is taken for a client that is gone.
func TestSilentInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	from, to := io.Pipe()
	defer to.Close()
	_, err := w.client(client.Options{}).CopyIn(w.ctx(), client.Script{Name: "import_orders"}, from, client.CopyOptions{Stall: 100 * time.Millisecond})
	var e *client.Error
	if !errors.As(err, &e) || e.Code != client.CodeTimeout && e.Code != client.CodeGone {
		t.Errorf("CopyIn() = %v, want that it timed out", err)
	}
	w.WantIdle()
}

func TestCopyIsCancelled(t *testing.T) {
	t.Parallel()
	why := errors.New("no longer wanted")
	for _, way := range []string{"in", "out"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{})
			w.SQL("INSERT INTO orders (customer, total) SELECT repeat('x', 500), g FROM generate_series(1, 20000) g")
			c := w.client(client.Options{})
			g := newGate(orders(50000), 100000)
			ctx, cancel := context.WithCancelCause(w.ctx())
			ended := make(chan error, 1)
			go func() {
				var err error
				if way == "in" {
					_, err = c.CopyIn(ctx, client.Script{Name: "import_orders"}, g, client.CopyOptions{ChunkBytes: 10000, WindowBytes: 30000})
				} else {
					_, err = c.CopyOut(ctx, export, g, client.CopyOptions{ChunkBytes: 10000, WindowBytes: 30000})
				}
				ended <- err
			}()
			<-g.there
			cancel(why)
			if way == "in" { // a Read that blocks holds up nobody
				if err := <-ended; !errors.Is(err, why) || errors.Is(err, client.ErrOutcomeUnknown) {
					t.Errorf("the copy ended with %v", err)
				}
				close(g.open)
			} else {
				close(g.open)
				if err := <-ended; !errors.Is(err, why) || errors.Is(err, client.ErrOutcomeUnknown) {
					t.Errorf("the copy ended with %v", err)
				}
			}
			w.WantIdle()
			harness.Equal(t, "orders", w.count("orders"), 20000)
		})
	}
}

func TestCopyInATransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	tx, err := c.Begin(w.ctx(), client.TxOptions{})
	w.ok(err)
	_, err = tx.CopyIn(w.ctx(), client.Script{Name: "import_orders"}, strings.NewReader(orders(10)), client.CopyOptions{})
	w.ok(err)
	w.ok(tx.Savepoint(w.ctx(), "s"))
	_, err = tx.CopyIn(w.ctx(), client.Script{Name: "import_orders"}, strings.NewReader("customer,total\nx,y\n"), client.CopyOptions{})
	w.failure(err, client.CodeSQLError)
	w.ok(tx.RollbackTo(w.ctx(), "s"))
	var out bytes.Buffer
	n, err := tx.CopyOut(w.ctx(), client.Script{SQL: "COPY orders TO STDOUT"}, &out, client.CopyOptions{})
	w.ok(err)
	harness.Equal(t, "rows", n.Rows, 10)
	harness.Equal(t, "before the commit", w.count("orders"), 0)
	w.ok(tx.Commit(w.ctx()))
	harness.Equal(t, "after the commit", w.count("orders"), 10)
}

func TestCopyObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	js, err := jetstream.New(w.Client)
	w.ok(err)
	for _, bucket := range []string{"imports", "exports"} {
		_, err := js.CreateObjectStore(w.ctx(), jetstream.ObjectStoreConfig{Bucket: bucket})
		w.ok(err)
	}
	store, err := js.ObjectStore(w.ctx(), "imports")
	w.ok(err)
	_, err = store.PutString(w.ctx(), "new.csv", orders(100))
	w.ok(err)
	c := w.client(client.Options{})
	script := client.Script{Name: "import_orders", MessageID: "once"}
	for range 2 {
		n, err := c.CopyObject(w.ctx(), script, client.Object{Bucket: "imports", Name: "new.csv"}, client.CopyOptions{})
		w.ok(err)
		harness.Equal(t, "rows", n.Rows, 100)
	}
	harness.Equal(t, "orders", w.count("orders"), 100)
	n, err := c.CopyObject(w.ctx(), export, client.Object{Bucket: "exports", Name: "all.csv"}, client.CopyOptions{})
	w.ok(err)
	exports, err := js.ObjectStore(w.ctx(), "exports")
	w.ok(err)
	info, err := exports.GetInfo(w.ctx(), "all.csv")
	w.ok(err)
	harness.Equal(t, "digest", n.Digest, info.Digest)
	_, err = c.CopyObject(w.ctx(), script, client.Object{Bucket: "imports", Name: "nowhere"}, client.CopyOptions{})
	w.failure(err, client.CodeConflict) // the id is used
}

func TestNoticesOfACopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.SQL(`CREATE FUNCTION said(what text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE WARNING '%', what; RETURN what; END$$`)
	o, err := w.client(client.Options{}).CopyOut(w.ctx(), client.Script{SQL: "COPY (SELECT said('für')) TO STDOUT"}, io.Discard, client.CopyOptions{})
	w.ok(err)
	if len(o.Notices) != 1 || o.Notices[0].Message != "für" {
		t.Errorf("notices %+v", o.Notices)
	}
}
