package testenv

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Mangler stands between clients and a PostgreSQL server, without TLS, and changes what
// the server says.
type Mangler struct {
	*relay
	change atomic.Pointer[Mangling]
}

// Mangling returns what is sent in place of the n-th message of a link, from 0, and
// whether it was changed: then the link ends behind the server's next ReadyForQuery, or
// at once if the message asked for something, so that nobody waits for what does not come.
type Mangling func(n int, kind byte, body []byte) (instead []byte, changed bool)

// NewMangler listens on a free loopback port and forwards to target, host:port. It ends
// with the test.
func NewMangler(t testing.TB, target string) *Mangler {
	t.Helper()
	m := new(Mangler)
	var err error
	if m.relay, err = newRelay(target, m.mangle); err != nil {
		t.Fatalf("listen for the mangler of %s: %v", target, err)
	}
	t.Cleanup(m.Close)
	return m
}

// Reroute returns a server's URL with the mangler in place of its host and port.
func (m *Mangler) Reroute(t testing.TB, serverURL string) string {
	t.Helper()
	return reroute(t, serverURL, m.Addr())
}

// Change sets what is done to messages of links that are made from now on.
func (m *Mangler) Change(how Mangling) { m.change.Store(&how) }

func (m *Mangler) mangle(client, server net.Conn) {
	change := m.change.Load()
	var asking sync.WaitGroup
	asking.Go(func() {
		_, _ = io.Copy(server, client)
		client.Close()
		server.Close()
	})
	m.answer(bufio.NewReader(server), client, change)
	client.Close()
	server.Close()
	asking.Wait()
}

// answer forwards the server's messages until one side ends.
func (m *Mangler) answer(server io.Reader, client io.Writer, change *Mangling) {
	head, over := make([]byte, 5), false
	for n := 0; ; n++ {
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		message, changed := Message(head[0], body), false
		if change != nil {
			message, changed = (*change)(n, head[0], body)
		}
		if _, err := client.Write(message); err != nil {
			return
		}
		if over = over || changed; over && (head[0] == 'Z' || changed && asks(head[0], body)) {
			return
		}
	}
}

// asks reports whether a message is a request for a password, or for data, which the
// server waits for.
func asks(kind byte, body []byte) bool {
	return kind == 'G' || kind == 'R' && len(body) > 4 && body[3] != 12 // AuthenticationSASLFinal
}

// Mangle has try talk to a server over and over, and each time one of its messages is
// wrong in one of the ways of [Manglings]: rows have too few values or too many, and of
// each kind the first message is wrong in every n-th way, later ones in fewer. try is
// called by several goroutines. Short tests do a third of it.
func Mangle(t *testing.T, pg *PG, serverURL string, every int, try func(url string)) {
	t.Helper()
	if testing.Short() {
		every *= 3
	}
	var kinds []byte
	m := NewMangler(t, pg.Addr())
	m.Change(func(n int, kind byte, body []byte) ([]byte, bool) {
		if n == len(kinds) { // of the first link, which is the longest
			kinds = append(kinds, kind)
		}
		return Message(kind, body), false
	})
	try(m.Reroute(t, serverURL))
	m.Close()
	t.Logf("%d messages: %s", len(kinds), kinds)
	type attempt struct {
		at  int
		how func(kind byte, body []byte) []byte
	}
	attempts := make(chan attempt)
	var workers sync.WaitGroup
	for range 8 {
		m := NewMangler(t, pg.Addr())
		url := m.Reroute(t, serverURL)
		workers.Go(func() {
			for a := range attempts {
				m.Change(func(n int, kind byte, body []byte) ([]byte, bool) {
					if n != a.at {
						return Message(kind, body), false
					}
					return a.how(kind, body), true
				})
				try(url)
			}
		})
	}
	for at, kind := range kinds {
		for i, how := range Manglings() {
			first, shaped := bytes.IndexByte(kinds, kind) == at, kind == 'D' && i < len(ofRows())/2
			if shaped || first && (i+at)%every == 0 || (i+at)%(7*every) == 0 {
				attempts <- attempt{at, how}
			}
		}
	}
	close(attempts)
	workers.Wait()
}

// Message is a message as PostgreSQL sends it.
func Message(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...)
}
