package client_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is a pgbridge in this process with the example's tables and scripts, and
// a client's connection.
type world struct {
	testing.TB
	*harness.World
	stop func() error // of what serves requests
}

// options of a world; the zero value is a good one.
type options struct {
	scripts map[string]string // besides the example's
	hook    func(*server.Options)
	channel *bridge.Channel // orders
	runner  func(*txrunner.Config)
}

func newWorld(t testing.TB, o options) *world {
	t.Helper()
	var hooks []func(*server.Options)
	if o.hook != nil {
		hooks = append(hooks, o.hook)
	}
	w := &world{TB: t, World: harness.New(t, o.scripts, hooks...)}
	if err := os.CopyFS(w.Folder, examples.Scripts()); err != nil {
		t.Fatal(err)
	}
	w.SQL(examples.Schema())
	w.Migrate()
	w.serve(o)
	if o.channel != nil {
		w.publish(map[string]bridge.Channel{"orders": *o.channel})
	}
	return w
}

// serve runs the part that answers requests, until stop is called or the test
// ends.
func (w *world) serve(o options) {
	w.Helper()
	w.stop = w.Serve(func(c *txrunner.Config) {
		copies, err := copier.New(copier.Config{Requests: c.Requests})
		if err != nil {
			w.Fatal(err)
		}
		c.SQL, c.StopGrace = &txrunner.SQL{}, time.Second
		c.Extensions = []txrunner.Extension{cursors.New(), copies.Extension()}
		if o.runner != nil {
			o.runner(c)
		}
	}).Stop
}

// publish runs a bridge.
func (w *world) publish(channels map[string]bridge.Channel) {
	w.Helper()
	gaps, err := w.Client.SubscribeSync("pgbridge.gap.*")
	if err != nil {
		w.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	b, err := bridge.New(bridge.Config{
		ConnString: w.Postgres, Events: harness.Requests(w, w.NATS.URL()), Requests: harness.Requests(w, w.NATS.URL()),
		Channels: channels, Stream: bridge.Stream{Create: true},
		StopGrace: time.Second, Logger: zap.New(core),
	})
	if err != nil {
		w.Fatal(err)
	}
	testenv.Run(w, logs, b.Run)
	testenv.Wait(w, harness.Patience, "the events to be published", func() bool {
		return len(b.Problems()) == 0 && b.Status().State == "publishing"
	})
	for range channels { // each begins with a gap, which no subscriber of a test's is to see
		if _, err := gaps.NextMsg(harness.Patience); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *world) client(o client.Options) *client.Client {
	w.Helper()
	return w.clientOn(w.Client, o)
}

func (w *world) clientOn(nc *nats.Conn, o client.Options) *client.Client {
	w.Helper()
	c, err := client.New(nc, o)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// ctx ends with the test, or when harness.Patience is over.
func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	w.Cleanup(cancel)
	return ctx
}

func (w *world) count(table string) int64 {
	w.Helper()
	return testenv.Value[int64](w, w.Postgres, "SELECT count(*) FROM "+table)
}

// failure fails the test unless err is pgbridge's, with a code.
func (w *world) failure(err error, code client.Code) *client.Error {
	w.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Code != code {
		w.Fatalf("error %v, want one with the code %s", err, code)
	}
	return e
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}
