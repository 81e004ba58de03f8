package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// errDialed ends the second attempt of lib/pq's to connect, which makes one for
// each host in PGHOST even where the connection string names only one.
var errDialed = errors.New("this dialer has made its one attempt")

// Dialer makes one attempt to connect lib/pq to one [Target], whatever address
// lib/pq names, and keeps hold of the socket. It is a pq.Dialer and a
// pq.DialerContext, and safe for concurrent use.
type Dialer struct {
	target  Target
	name    string      // application_name, where pgx logs in
	release func() bool // lets go of the context given to Target.Dialer

	mu      sync.Mutex              // guards the fields below
	refused error                   // why no dial may begin; nil while one may
	cancel  context.CancelCauseFunc // ends the dial under way; nil when there is none
	socket  net.Conn                // below TLS; nil until a dial succeeded
}

// Dialer returns a dialer for one connection. Once ctx has ended it begins no
// dial and a dial under way fails; a connection that was made stays open.
// applicationName is that of [Target.DSN].
// [Dialer.Close] must be called in the end.
func (t Target) Dialer(ctx context.Context, applicationName string) *Dialer {
	d := &Dialer{target: t, name: applicationName}
	d.release = context.AfterFunc(ctx, func() { d.refuse(context.Cause(ctx)) })
	return d
}

// Format prints the target for every verb: the fields hold a password.
func (d *Dialer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, d.target.String()) }

// Dial is [Dialer.DialContext] without a limit of its own.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout is [Dialer.DialContext] with a limit.
func (d *Dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// DialContext connects to the dialer's target and agrees on TLS where the
// target wants it. The network and address are ignored. It blocks until that is
// done, ctx or the dialer's context ends, or the dialer is closed. It works
// once; later calls fail.
func (d *Dialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := d.begin(cancel); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.target, err)
	}
	conn, err := d.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.target, err)
	}
	return conn, nil
}

func (d *Dialer) open(ctx context.Context) (net.Conn, error) {
	if login := d.target.login; login != nil && logsIn(&login.Config) {
		return d.target.logIn(ctx, d.name, d.hold)
	}
	socket, conn, err := d.target.at.open(ctx)
	if err == nil {
		err = d.hold(socket)
	}
	return conn, err
}

// Close closes the socket, which fails whatever lib/pq is doing on it, and
// refuses or ends every dial. It never blocks and may be called more than once,
// by any goroutine.
func (d *Dialer) Close() {
	d.release()
	d.refuse(net.ErrClosed)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket != nil {
		d.socket.Close() // lib/pq may have closed it already
	}
}

// begin admits the one attempt.
func (d *Dialer) begin(cancel context.CancelCauseFunc) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused != nil {
		return d.refused
	}
	d.refused, d.cancel = errDialed, cancel
	return nil
}

// refuse ends the dial under way and those to come.
func (d *Dialer) refuse(why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = why
	if d.cancel != nil {
		d.cancel(why)
	}
}

// hold keeps the socket for Close, or closes it where that came first.
func (d *Dialer) hold(socket net.Conn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cancel = nil
	if d.refused != errDialed {
		socket.Close()
		return d.refused
	}
	d.socket = socket
	return nil
}
