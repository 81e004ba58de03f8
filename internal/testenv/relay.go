package testenv

import (
	"net"
	"sync"
)

// relay forwards from a free loopback port to a server: what stands between the two does
// the rest.
type relay struct {
	listener net.Listener
	target   string
	carry    func(client, server net.Conn) // one link, until both its directions have ended
	links    sync.WaitGroup

	mu    sync.Mutex        // guards conns
	conns map[net.Conn]bool // nil: closed
}

func newRelay(target string, carry func(client, server net.Conn)) (*relay, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: listener, target: target, carry: carry, conns: map[net.Conn]bool{}}
	r.links.Go(r.accept)
	return r, nil
}

// Addr returns where clients connect to, host:port.
func (r *relay) Addr() string { return r.listener.Addr().String() }

// Close closes all links, and waits.
func (r *relay) Close() {
	r.listener.Close()
	r.mu.Lock()
	for conn := range r.conns {
		conn.Close()
	}
	r.conns = nil
	r.mu.Unlock()
	r.links.Wait()
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.links.Go(func() { r.serve(client) })
	}
}

func (r *relay) serve(client net.Conn) {
	defer r.drop(client)
	if !r.keep(client) {
		return
	}
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	defer r.drop(server)
	if r.keep(server) {
		r.carry(client, server)
	}
}

// keep notes a connection that Close closes, and reports whether it has not come yet.
func (r *relay) keep(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		return false
	}
	r.conns[conn] = true
	return true
}

func (r *relay) drop(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	conn.Close()
	delete(r.conns, conn)
}
