package bridge

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// listenConn is a pq.Listener that connects once.
type listenConn struct {
	pq     *pq.Listener
	dialer *postgres.Dialer
	born   chan struct{} // closed once pq is set
	first  chan error    // the outcome of the only attempt
	ended  chan struct{} // closed by the owner once pq.Notify is drained
	// signs counts signs of life: what the owner received, and how often it
	// found that it does not want to receive.
	signs atomic.Uint64

	lost  error // why pq lost the connection; readable once pq.Notify is closed
	fault error // why the owner gave it up
}

// dialListener connects, within the target's connect_timeout or until ctx ends.
func dialListener(ctx context.Context, t postgres.Target, application string) (*listenConn, error) {
	c := &listenConn{
		dialer: t.Dialer(ctx),
		born:   make(chan struct{}),
		first:  make(chan error, 1),
		ended:  make(chan struct{}),
	}
	cancel := context.AfterFunc(ctx, c.dialer.Close)
	defer cancel()
	c.pq = pq.NewDialListener(c.dialer, t.DSN(application), time.Millisecond, time.Millisecond, c.event)
	close(c.born)
	if err := <-c.first; err != nil {
		c.close()
		for range c.pq.Notify {
		}
		return nil, fmt.Errorf("connect to %s: %w", t, err)
	}
	return c, nil
}

// event is pq's callback. Closing the listener in it keeps pq from dialling a
// second time.
func (c *listenConn) event(ev pq.ListenerEventType, err error) {
	<-c.born
	switch ev {
	case pq.ListenerEventConnected:
		c.first <- nil
	case pq.ListenerEventConnectionAttemptFailed:
		c.pq.Close()
		c.first <- err
	case pq.ListenerEventDisconnected:
		c.lost = err
		c.pq.Close()
	}
}

// close ends the connection; pq.Notify closes once what it holds is drained.
func (c *listenConn) close() {
	c.dialer.Close() // first: pq's own Close waits for a command under way
	c.pq.Close()
}

// do runs a command. pq gives it no deadline and clears those set on the
// socket, so one that stays without an answer ends with the socket.
func (c *listenConn) do(what string, f func() error) error {
	var watch sync.WaitGroup
	answered := make(chan struct{})
	watch.Go(func() { c.watch(answered, c.dialer.Close) })
	err := f()
	close(answered)
	watch.Wait()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// watch calls cut when no sign of life came for a whole commandTimeout, and
// returns at the latest when answered is closed. An answer comes after the
// notifications that wait before it, which may take long to read.
func (c *listenConn) watch(answered <-chan struct{}, cut func()) {
	tick := time.NewTicker(commandTimeout)
	defer tick.Stop()
	for seen := c.signs.Load(); ; {
		select {
		case <-answered:
			return
		case <-tick.C:
		}
		if now := c.signs.Load(); now != seen {
			seen = now
			continue
		}
		cut()
		return
	}
}

// ping asks for a sign of life. pq panics when the server's answer is an error.
func (c *listenConn) ping() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the server refused it: %v", r)
		}
	}()
	return c.pq.Ping()
}

// follow changes the channels listened to from current to wanted.
func (c *listenConn) follow(current, wanted []string) error {
	for _, name := range wanted {
		if slices.Contains(current, name) {
			continue
		}
		if err := c.do("LISTEN "+pq.QuoteIdentifier(name), func() error { return c.pq.Listen(name) }); err != nil {
			return err
		}
	}
	for _, name := range current {
		if slices.Contains(wanted, name) {
			continue
		}
		if err := c.do("UNLISTEN "+pq.QuoteIdentifier(name), func() error { return c.pq.Unlisten(name) }); err != nil {
			return err
		}
	}
	return nil
}
