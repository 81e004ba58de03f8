package testenv

import (
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands between clients and a server and can disturb their links. Its
// methods may be called from several goroutines.
type Proxy struct {
	listener net.Listener
	pumps    sync.WaitGroup

	mu       sync.Mutex // guards the rest
	target   string
	closed   bool
	accepted int
	links    map[*link]bool
	thawed   chan struct{} // closed while bytes may pass
}

// link is a client's connection and, soon, the one made for it to the server.
type link struct {
	gone   chan struct{} // closed when the proxy has cut it
	client net.Conn

	mu        sync.Mutex // guards the rest
	cut       bool
	abandoned bool // by its client, and the server is not told
	conns     []net.Conn
}

// NewProxy listens on a free loopback port and forwards to target, host:port.
// It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen for the proxy of %s: %v", target, err)
	}
	p := &Proxy{target: target, listener: listener, links: map[*link]bool{}, thawed: make(chan struct{})}
	close(p.thawed)
	p.pumps.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr returns where clients connect to, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Reroute returns a server's URL with the proxy in place of its host and port.
func (p *Proxy) Reroute(t testing.TB, serverURL string) string {
	t.Helper()
	return reroute(t, serverURL, p.Addr())
}

// Freeze stops forwarding bytes, both ways, on links old and new, without
// closing any: neither side is told anything, as when a cable is cut. A close
// is held back too, and so is a new link's connection to the server.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.thawed:
		p.thawed = make(chan struct{})
	default: // frozen already
	}
}

// Thaw forwards again, beginning with what was held back.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.thawed:
	default:
		close(p.thawed)
	}
}

// Cut closes all links, frozen ones too. New ones can be made.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// Abandon closes a link for its client alone, as a firewall does that has forgotten it:
// the server's connection, which comes from the local port given, stays open until
// the test ends. It reports whether there is such a link.
func (p *Proxy) Abandon(port int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if l.abandon(port) {
			return true
		}
	}
	return false
}

// Lead sends links that are made from now on to another target, host:port, as a
// name does that is given a new address. The others stay where they are.
func (p *Proxy) Lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *Proxy) leadsTo() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// Links returns how many links are open.
func (p *Proxy) Links() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Accepted returns how many connections clients have made so far, those
// included for which the server could not be reached.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listener.Close()
	p.Cut()
	p.pumps.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // that client is gone again
		}
		p.mu.Lock()
		p.accepted++
		p.mu.Unlock()
		p.pumps.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	l := &link{gone: make(chan struct{}), client: client}
	l.attach(client)
	defer l.close()
	if !p.add(l) {
		return
	}
	defer p.remove(l)
	if !p.pass(l) {
		return
	}
	server, err := net.Dial("tcp", p.leadsTo())
	if err != nil {
		return // closed, the client learns that there is no server
	}
	l.attach(server)
	var directions sync.WaitGroup
	directions.Go(func() { p.pump(l, client, server) })
	directions.Go(func() { p.pump(l, server, client) })
	directions.Wait()
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.links[l] = true
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// pump forwards one direction until its end, which it passes on, or a fault,
// which ends the link.
func (p *Proxy) pump(l *link, from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !p.pass(l) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				l.ends(from)
				return
			}
		}
		if errors.Is(err, io.EOF) {
			closeWrite(to)
			return
		}
		if err != nil {
			l.ends(from)
			return
		}
	}
}

// ends closes a link that fails. An abandoned one takes what its server sends, until
// that one ends it.
func (l *link) ends(from net.Conn) {
	switch {
	case !l.isAbandoned():
		l.close()
	case from == l.client:
		<-l.gone
	default:
		_, _ = io.Copy(io.Discard, from)
		l.close()
	}
}

// pass blocks while the proxy is frozen and tells whether the link still is.
func (p *Proxy) pass(l *link) bool {
	for {
		p.mu.Lock()
		thawed := p.thawed
		p.mu.Unlock()
		select {
		case <-l.gone:
			return false
		default:
		}
		select {
		case <-thawed:
			return true
		case <-l.gone:
			return false
		}
	}
}

func closeWrite(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // a peer that is gone already needs no telling
	}
}

// attach makes a connection part of the link; of one already cut it is closed.
func (l *link) attach(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		conn.Close()
	}
	l.conns = append(l.conns, conn)
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return
	}
	l.cut = true
	close(l.gone)
	for _, conn := range l.conns {
		conn.Close()
	}
}

// abandon is Abandon for a link, which then forwards nothing any more.
func (l *link) abandon(port int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || len(l.conns) != 2 || l.conns[1].LocalAddr().(*net.TCPAddr).Port != port {
		return false
	}
	l.abandoned = true
	l.client.Close()
	return true
}

func (l *link) isAbandoned() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.abandoned
}

// reroute returns a URL with another host and port.
func reroute(t testing.TB, serverURL, addr string) string {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatalf("reroute a URL: %v", err)
	}
	u.Host = addr
	return u.String()
}
