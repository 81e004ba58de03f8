package listen

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

const commandTimeout = 5 * time.Second // for LISTEN, UNLISTEN and a ping

// connection is a pq.Listener that connects once.
type connection struct {
	pq     *pq.Listener
	dialer *postgres.Dialer
	wire   *wire
	born   chan struct{} // closed once pq is set
	first  chan error    // the outcome of the only attempt
	ended  chan struct{} // closed by the owner once pq.Notify is drained
	// signs counts signs of life: what the owner received, and how often it
	// found that it does not want to receive.
	signs atomic.Uint64

	// translation is that of the database's encoding; set before anything is
	// listened to.
	translation atomic.Pointer[translation]

	instance atomic.Pointer[string] // of the server, once it is known
	left     atomic.Pointer[error]  // why another part had it closed

	lost  error // why pq lost the connection; readable once pq.Notify is closed
	fault error // why the owner gave it up
	// listened: the channels were, at least once; readable once the commands
	// have ended.
	listened bool
}

// dialListener connects, within the target's connect_timeout or until ctx ends.
func dialListener(ctx context.Context, t postgres.Target, application string) (*connection, error) {
	c := &connection{
		dialer: t.Dialer(ctx, application),
		wire:   &wire{},
		born:   make(chan struct{}),
		first:  make(chan error, 1),
		ended:  make(chan struct{}),
	}
	c.translation.Store(&translation{})
	cancel := context.AfterFunc(ctx, c.dialer.Close)
	defer cancel()
	c.pq = pq.NewDialListener(&dialing{c.dialer, c.wire}, t.DSN(application), time.Millisecond, time.Millisecond, c.event)
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
func (c *connection) event(ev pq.ListenerEventType, err error) {
	<-c.born
	switch ev {
	case pq.ListenerEventConnected:
		c.first <- nil
	case pq.ListenerEventConnectionAttemptFailed:
		_ = c.pq.Close()
		c.first <- err
	case pq.ListenerEventDisconnected:
		c.lost = err
		_ = c.pq.Close()
	}
}

// close ends the connection; pq.Notify closes once what it holds is drained.
func (c *connection) close() {
	c.dialer.Close() // first: pq's own Close waits for a command under way
	_ = c.pq.Close()
}

// do runs a command. pq gives it no deadline and clears those set on the
// socket, so one that stays without an answer ends with the socket.
func (c *connection) do(what string, f func() error) error {
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
func (c *connection) watch(answered <-chan struct{}, cut func()) {
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
func (c *connection) ping() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the server refused it: %w", asError(r))
		}
	}()
	return c.pq.Ping()
}

// asError is what pq's ping panicked with.
func asError(r any) error {
	if err, ok := r.(error); ok {
		return err
	}
	return errors.New(fmt.Sprint(r))
}
