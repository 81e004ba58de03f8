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
type TripCounter struct{ trips atomic.Int64 }

// NewTripCounter starts a counter in front of the server of a URL, and returns
// the URL that leads through it. It ends with the test.
func NewTripCounter(t testing.TB, serverURL string) (_ *TripCounter, through string) {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	c := new(TripCounter)
	between, err := newRelay(u.Host, c.count)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(between.Close)
	return c, reroute(t, serverURL, between.Addr())
}

// Trips returns how many round trips there were.
func (c *TripCounter) Trips() int64 { return c.trips.Load() }

func (c *TripCounter) count(client, server net.Conn) {
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
