package bridge_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// muffler is a proxy of a PostgreSQL server that swallows notifications on the
// links that were open when it was told to, and passes everything else, answers to
// pings too.
type muffler struct {
	listener net.Listener
	server   string
	pumps    sync.WaitGroup

	mu    sync.Mutex // guards links
	links []*atomic.Bool
}

func newMuffler(t *testing.T, pg string) (m *muffler, through string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := parsed(t, pg)
	m = &muffler{listener: listener, server: u.Host}
	m.pumps.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			m.pumps.Go(func() { m.serve(client) })
		}
	})
	t.Cleanup(func() { listener.Close(); m.pumps.Wait() })
	u.Host = listener.Addr().String()
	return m, u.String()
}

// mute swallows what comes from now on, on the links that are open.
func (m *muffler) mute() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		l.Store(true)
	}
}

func (m *muffler) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", m.server)
	if err != nil {
		return
	}
	defer server.Close()
	muted := &atomic.Bool{}
	m.mu.Lock()
	m.links = append(m.links, muted)
	m.mu.Unlock()
	var up sync.WaitGroup
	up.Go(func() { _, _ = io.Copy(server, client); server.Close() })
	passMessages(client, server, muted)
	client.Close()
	up.Wait()
}

// passMessages passes on what a server sends, message by message.
func passMessages(to io.Writer, from io.Reader, muted *atomic.Bool) {
	const notification = 'A'
	for head := make([]byte, 5); ; {
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if head[0] == notification && muted.Load() {
			continue
		}
		if _, err := to.Write(append(append([]byte{}, head...), body...)); err != nil {
			return
		}
	}
}

// A connection that answers pings and brings no notification is left for a new
// one.
func TestMarkersThatStayAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m, through := newMuffler(t, w.pg)
	config := w.config(t, map[string]bridge.Channel{"orders": {}})
	config.ConnString = through
	r := launch(t, config, func(b *bridge.Bridge) { b.SetSilentAfter(time.Second) }).ready(t)
	m.mute()
	testenv.Exec(t, w.pg, "SELECT pg_notify('orders', 'swallowed')")
	if err := r.Reload(map[string]bridge.Channel{"orders": {}, "audit": {}}); err != nil { // wants a marker
		t.Fatal(err)
	}
	r.logged(t, "listener", "no marker came back on this connection")
	w.heard.awaitGap(t, "orders", api.ReasonReconnected)
	r.ready(t)
	testenv.Exec(t, w.pg, "SELECT pg_notify('orders', 'after')")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "after")
}
