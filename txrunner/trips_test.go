package txrunner_test

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
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
	c.pumps.Go(c.accept)
	t.Cleanup(func() {
		listener.Close()
		c.pumps.Wait()
	})
	return c
}

func (c *tripCounter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.pumps.Go(func() { c.serve(client) })
	}
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
		copyWith(server, client, func() {
			if answered.Swap(false) {
				c.trips.Add(1)
			}
		})
		server.Close()
	})
	directions.Go(func() {
		copyWith(client, server, func() { answered.Store(true) })
		client.Close()
	})
	directions.Wait()
}

func copyWith(to io.Writer, from io.Reader, each func()) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			each()
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"write":   "UPDATE account SET balance = balance - @n WHERE id = 1; UPDATE account SET balance = balance + @n WHERE id = 2",
		"modes":   "-- isolation: serializable\n-- role: clerk\n-- timeout: 2s\nUPDATE account SET balance = balance",
		"read":    "-- read_only: true\nSELECT * FROM account; SELECT 1",
		"both":    "UPDATE account SET balance = balance; SELECT * FROM account; SELECT 1",
		"temp":    "CREATE TEMP TABLE scratch (id int) ON COMMIT DROP; INSERT INTO scratch VALUES (@n); SELECT * FROM scratch",
		"nothing": "SAVEPOINT a; RELEASE a",
	})
	w.sql(accounts + "; DO $$ BEGIN CREATE ROLE clerk; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT ALL ON account TO clerk")
	w.migrate()
	u, err := url.Parse(w.pg)
	if err != nil {
		t.Fatal(err)
	}
	counter := newTripCounter(t, u.Host)
	u.Host = counter.listener.Addr().String()
	w.serve(func(c *txrunner.Config) {
		c.ConnString, c.RunConnections, c.PinnedConnections, c.ScriptsPoll = u.String(), 1, 1, -1
	})
	testenv.Wait(t, patience, "the check of the scripts to end", func() bool {
		return value[int](w, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgbridge'") == 1
	})
	params := `{"params": {"n": 1}}`
	for _, c := range []struct {
		what, script, body string
		want               int64
		headers            []string
	}{
		{"writes, no rows", "write", params, 1, nil},
		{"modes, role and timeout", "modes", ``, 1, nil},
		{"read only", "read", ``, 1, nil},
		{"writes and rows", "both", ``, 2, nil},
		{"no result at all", "nothing", ``, 1, nil},
		{"with a message id", "write", params, 2, []string{"Nats-Msg-Id"}},
		{"statements parsed on the way, and tidied up", "temp", params, 3, nil},
	} {
		id := 0
		ask := func() int64 {
			headers := c.headers
			if headers != nil {
				id++
				headers = append(headers, fmt.Sprint(id))
			}
			before := counter.trips.Load()
			if a := w.ask("run."+c.script, c.body, headers...); a.Error != nil {
				t.Fatalf("%s: %+v", c.what, *a.Error)
			}
			return counter.trips.Load() - before
		}
		ask() // prepares
		least := ask()
		for range 4 { // a probe or a reset may come in between
			least = min(least, ask())
		}
		tidied := c.script == "temp" && least == c.want-1 // before or after the reply
		if least != c.want && !tidied {
			t.Errorf("%s: %d round trips, want %d", c.what, least, c.want)
		}
	}
	tx := w.ask("begin", ``).Tx
	for _, verb := range []struct {
		name, body string
	}{{"run.write", params}, {"run.both", ``}, {"savepoint", `{"name": "s"}`}, {"rollback_to", `{"name": "s"}`}} {
		least := int64(10)
		for range 3 {
			before := counter.trips.Load()
			if a := w.ask(tx+"."+verb.name, verb.body); a.Error != nil {
				t.Fatalf("%s: %+v", verb.name, *a.Error)
			}
			least = min(least, counter.trips.Load()-before)
		}
		if least != 1 {
			t.Errorf("%s in a transaction: %d round trips, want 1", verb.name, least)
		}
	}
}
