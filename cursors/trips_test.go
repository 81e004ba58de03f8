package cursors_test

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgbridge/pgbridge/txrunner"
)

// tripCounter is a proxy that counts the changes of direction on all its links:
// a client that sends after the server has spoken begins a round trip.
type tripCounter struct {
	listener net.Listener
	target   string
	trips    atomic.Int64
	pumps    sync.WaitGroup
}

func newTripCounter(t testing.TB, target string) *tripCounter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &tripCounter{listener: listener, target: target}
	c.pumps.Go(func() {
		for {
			client, err := c.listener.Accept()
			if err != nil {
				return
			}
			c.pumps.Go(func() { c.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		c.pumps.Wait()
	})
	return c
}

func (c *tripCounter) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer server.Close()
	var answered atomic.Bool
	answered.Store(true)
	var directions sync.WaitGroup
	directions.Go(func() {
		_, _ = io.Copy(onWrite{server, func() {
			if answered.Swap(false) {
				c.trips.Add(1)
			}
		}}, client)
		server.Close()
	})
	directions.Go(func() {
		_, _ = io.Copy(onWrite{client, func() { answered.Store(true) }}, server)
		client.Close()
	})
	directions.Wait()
}

// onWrite calls do before each write.
type onWrite struct {
	io.Writer
	do func()
}

func (w onWrite) Write(p []byte) (int, error) {
	w.do()
	return w.Writer.Write(p)
}

// TestRoundTrips counts them once a script's rows are known.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"numbers": "SELECT g AS n, 'row ' || g AS name FROM generate_series(1, @n::int) g;",
		"after":   "CREATE TEMP TABLE scratch ON COMMIT DROP AS SELECT 1; SELECT g FROM generate_series(1, @n::int) g;",
		"work":    "SELECT 1;",
	})
	u, err := url.Parse(w.pg)
	if err != nil {
		t.Fatal(err)
	}
	counter := newTripCounter(t, u.Host)
	u.Host = counter.listener.Addr().String()
	w.serve(func(c *txrunner.Config) { c.ConnString, c.PinnedConnections = u.String(), 1 })
	count := func(do func()) int64 {
		before := counter.trips.Load()
		do()
		return counter.trips.Load() - before
	}
	open := `{"params": {"n": 9000}, "count": 1000}`
	tx := w.works("begin", "").Tx
	w.works(tx+".cursor.numbers", open)
	w.works(tx+".cursor.after", open)
	w.works(tx+".rollback", "")
	tx = w.works("begin", "").Tx
	for _, c := range []struct {
		what, verb, body string
		want             int64
	}{
		{"DECLARE and the first page", "cursor.numbers", open, 1},
		{"with scroll", "cursor.numbers", `{"params": {"n": 9000}, "scroll": true, "name": "s"}`, 1},
		{"behind another statement", "cursor.after", open, 1},
		{"after which its cursors are looked for", "fetch", `{"cursor": "c1"}`, 2},
		{"the next page", "fetch", `{"cursor": "c1"}`, 1},
		{"a page that is cut", "fetch", `{"cursor": "s", "max_bytes": 5000}`, 1},
		{"back from there", "fetch", `{"cursor": "s", "direction": "backward", "count": 10}`, 1},
		{"a row far away", "fetch", `{"cursor": "s", "direction": "absolute", "count": 5000}`, 1},
		{"the last row", "fetch", `{"cursor": "s", "direction": "last"}`, 2},
		{"a move", "move", `{"cursor": "s", "direction": "backward", "count": 100}`, 1},
		{"what PostgreSQL would refuse", "fetch", `{"cursor": "c1", "direction": "prior"}`, 0},
		{"a cursor that is not there", "fetch", `{"cursor": "nobody"}`, 0},
		{"close", "close", `{"cursor": "s"}`, 1},
		{"a script", "run.work", ``, -1},
		{"after a script its cursors are looked for", "fetch", `{"cursor": "c1"}`, 2},
	} {
		got := count(func() { w.ask(tx+"."+c.verb, c.body) })
		if got != c.want && c.want >= 0 {
			t.Errorf("%s: %d round trips, want %d", c.what, got, c.want)
		}
	}
	w.works(tx+".rollback", "")
	if got := count(func() { w.works("cursor.numbers", open) }); got > 3 { // a reset, BEGIN, the page
		t.Errorf("a cursor of its own: %s round trips, want at most 3", fmt.Sprint(got))
	}
}
