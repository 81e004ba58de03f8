package durable

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// poison stands between a feed and its server, and fails as PostgreSQL 14 and 15 do at a
// message near 1 GB: whenever the slot is read up to the message, with XX000, in the
// place of the message. It says so by what the message holds.
type poison struct {
	listener net.Listener
	server   string
	mark     []byte
	failed   atomic.Int64
	starts   atomic.Int64 // so many times to be refused yet, as by a server that cannot load its plugin
}

// newPoison returns the server's URL through the stand-in, which ends with the test.
func newPoison(t *testing.T, serverURL, mark string) (p *poison, through string) {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	p = &poison{server: u.Host, mark: []byte(mark)}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	var links sync.WaitGroup
	links.Go(func() {
		for {
			client, err := p.listener.Accept()
			if err != nil {
				return
			}
			links.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		p.listener.Close()
		links.Wait() // the feeds have ended before
	})
	u.Host = p.listener.Addr().String()
	return p, u.String()
}

func (p *poison) serve(client net.Conn) {
	defer client.Close()
	hello, err := greeting(client)
	if err != nil {
		return
	}
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	if _, err := server.Write(hello); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	if bytes.Contains(hello, []byte("replication")) {
		_ = p.pass(client, server)
	} else {
		_, _ = io.Copy(client, server)
	}
	client.Close()
	both.Wait()
}

// greeting reads the first message, and refuses encryption.
func greeting(client net.Conn) ([]byte, error) {
	const encryption, gss = 80877103, 80877104
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(client, head); err != nil {
			return nil, err
		}
		if code := binary.BigEndian.Uint32(head[4:]); code == encryption || code == gss {
			if _, err := client.Write([]byte{'N'}); err != nil {
				return nil, err
			}
			continue
		}
		size := binary.BigEndian.Uint32(head)
		if size < 8 || size > 1<<16 {
			return nil, fmt.Errorf("a greeting of %d bytes", size)
		}
		hello := make([]byte, size)
		copy(hello, head)
		_, err := io.ReadFull(client, hello[8:])
		return hello, err
	}
}

// pass forwards the server's messages up to the poisoned one.
func (p *poison) pass(client io.Writer, server io.Reader) error {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(server, head); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return err
		}
		switch {
		case head[0] == 'd' && bytes.Contains(body, p.mark):
			p.failed.Add(1)
			return refuse(client, "XX000", "invalid memory alloc request size 1073741824")
		case head[0] == 'W' && p.starts.Add(-1) >= 0:
			return refuse(client, "58P01", `could not load library "pgoutput.so": undefined symbol`)
		}
		if _, err := client.Write(append(head[:5:5], body...)); err != nil {
			return err
		}
	}
}

func refuse(client io.Writer, state, message string) error {
	refusal, err := (&pgproto3.ErrorResponse{Severity: "ERROR", Code: state, Message: message}).Encode(nil)
	if err == nil {
		_, err = client.Write(refusal)
	}
	return err
}

// A server that cannot begin to read any slot, as while its packages are being replaced,
// has not lost this one.
func TestServerThatCannotBegin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	far := *w
	var between *poison
	between, far.url = newPoison(t, w.url, "nothing of the kind")
	first := far.run([]string{"a"})
	w.begun(1)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	between.starts.Store(givenUpAfter + 1)
	w.exec("SELECT pgbridge.notify('a', 'meanwhile')")
	far.run([]string{"a"})
	all := w.await("meanwhile")
	if got, want := gaps(all), []string{"a started"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
}

// A message of another's that the server itself cannot send, however often it is asked,
// costs the slot: the third failure at one place is enough. That is told, and what comes
// after is carried.
func TestMessageThatTheServerCannotSend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	far := *w
	var between *poison
	between, far.url = newPoison(t, w.url, "a gigabyte of something")
	r := far.run([]string{"a"})
	w.begun(1)
	w.exec("SELECT pgbridge.notify('a', 'before')")
	w.await("before")
	w.exec("BEGIN; SELECT pg_logical_emit_message(true, 'foreign', 'a gigabyte of something'); SELECT pgbridge.notify('a', 'behind it'); COMMIT")
	w.begun(3)
	w.exec("SELECT pgbridge.notify('a', 'after')")
	all := w.await("after")
	if got, want := events(all), []string{"a before", "a after"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if got, want := gaps(all), []string{"a started", "a slot_lost"}; !slices.Equal(got, want) {
		t.Errorf("gaps %q, want %q", got, want)
	}
	// The first can come before what is confirmed has moved, and so count for another place.
	if n := between.failed.Load(); n < 3 || n > 4 {
		t.Errorf("the slot was given up after %d failures, want 3", n)
	}
	told := r.logs.FilterMessage("replication slot is lost and made anew").FilterField(zap.String("sqlstate", "XX000"))
	if told.Len() != 1 {
		t.Errorf("the log has %v", messagesOf(r.logs))
	}
}

func messagesOf(logs *observer.ObservedLogs) (all []string) {
	for _, e := range logs.All() {
		all = append(all, fmt.Sprint(e.Message, e.ContextMap()))
	}
	return all
}
