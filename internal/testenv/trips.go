package testenv

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// TripCounter is a proxy that counts the changes of direction on all its links:
// a client that sends after the server has spoken begins a round trip.
type TripCounter struct {
	listener net.Listener
	target   string
	trips    atomic.Int64
	pumps    sync.WaitGroup
}

// NewTripCounter starts a counter in front of the server of a URL, and returns
// the URL that leads through it. It ends with the test.
func NewTripCounter(t testing.TB, serverURL string) (_ *TripCounter, through string) {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &TripCounter{listener: listener, target: u.Host}
	c.pumps.Go(c.accept)
	t.Cleanup(func() {
		listener.Close()
		c.pumps.Wait()
	})
	u.Host = listener.Addr().String()
	return c, u.String()
}

// Trips returns how many round trips there were.
func (c *TripCounter) Trips() int64 { return c.trips.Load() }

func (c *TripCounter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.pumps.Go(func() { c.serve(client) })
	}
}

func (c *TripCounter) serve(client net.Conn) {
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

// copyWith calls each before it passes something on.
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
