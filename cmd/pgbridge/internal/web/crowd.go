package web

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
)

// mostConnections is far more than probes and scrapers need, and far less than
// files a process may have open.
const mostConnections = 128

// crowd bounds the connections to a server. One too many takes the place of the
// one that has been without a request for the longest time, so that whoever only
// holds connections keeps nobody else out. A connection whose request was served is
// without one, too, while net/http waits for a body that nobody has asked for. Where
// more than half of all are being served, it takes the place of the one that is for
// the longest time, since its client may never read what it is answered.
type crowd struct {
	most int

	mu      sync.Mutex // guards the fields below
	waiting []net.Conn // whose request is not served, the longest first
	serving []net.Conn // whose request is, the same
	open    int
	putOut  map[net.Conn]bool // their end is still to come, and they count no more
}

func newCrowd(most int) *crowd { return &crowd{most: most, putOut: map[net.Conn]bool{}} }

type connKey struct{}

// bound makes a server that has not begun keep to it.
func (c *crowd) bound(s *http.Server) {
	s.ConnState = c.changed
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conn)
	}
	handler := s.Handler
	s.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			c.served(conn)
			defer c.wait(conn)
		}
		handler.ServeHTTP(rw, r)
	})
}

// served has a connection wait no longer: it has a request.
func (c *crowd) served(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave(conn)
	if !c.putOut[conn] {
		c.serving = append(c.serving, conn)
	}
}

// wait has it wait again.
func (c *crowd) wait(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enter(conn)
}

// enter puts a connection behind those that wait.
func (c *crowd) enter(conn net.Conn) {
	c.leave(conn)
	if !c.putOut[conn] {
		c.waiting = append(c.waiting, conn)
	}
}

func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open++
		c.enter(conn)
	case http.StateActive, http.StateIdle:
		c.enter(conn)
	case http.StateClosed, http.StateHijacked:
		c.leave(conn)
		if !c.putOut[conn] {
			c.open--
		}
		delete(c.putOut, conn)
	}
	if c.open > c.most {
		longest := c.longest()
		c.leave(longest)
		c.putOut[longest] = true
		c.open--
		longest.Close() // its state changes to closed some time later
	}
}

// longest is the connection that has to make room for another.
func (c *crowd) longest() net.Conn {
	if len(c.waiting) == 0 || len(c.serving) > c.most/2 {
		return c.serving[0]
	}
	return c.waiting[0]
}

// leave takes a connection off those that wait or are served.
func (c *crowd) leave(conn net.Conn) {
	is := func(other net.Conn) bool { return other == conn }
	c.waiting, c.serving = slices.DeleteFunc(c.waiting, is), slices.DeleteFunc(c.serving, is)
}
