package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// errNoTLS is the server's answer N to a request for TLS. The words are pgx's.
var errNoTLS = errors.New("server refused TLS connection")

// errDialed ends the second attempt of lib/pq's to connect, which makes one for
// each host in PGHOST even where the connection string names only one.
var errDialed = errors.New("this dialer has made its one attempt")

// sslRequest asks a server for TLS before anything else is said.
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"

// Dialer makes one attempt to connect lib/pq to one [Target], whatever address
// lib/pq names, and keeps hold of the socket. It is a pq.Dialer and a
// pq.DialerContext, and safe for concurrent use.
type Dialer struct {
	at      endpoint
	release func() bool // lets go of the context given to Target.Dialer

	mu      sync.Mutex              // guards the fields below
	refused error                   // why no dial may begin; nil while one may
	cancel  context.CancelCauseFunc // ends the dial under way; nil when there is none
	socket  net.Conn                // below TLS; nil until a dial succeeded
}

// Dialer returns a dialer for one connection. Once ctx has ended it begins no
// dial and a dial under way fails; a connection that was made stays open.
// [Dialer.Close] must be called in the end.
func (t Target) Dialer(ctx context.Context) *Dialer {
	d := &Dialer{at: t.at}
	d.release = context.AfterFunc(ctx, func() { d.refuse(context.Cause(ctx)) })
	return d
}

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
		return nil, fmt.Errorf("connect to %s: %w", d.at, err)
	}
	socket, conn, err := d.at.open(ctx)
	if err == nil {
		err = d.hold(socket)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.at, err)
	}
	return conn, nil
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

// open returns the socket and the connection on it, the same without TLS.
func (e endpoint) open(ctx context.Context) (socket, conn net.Conn, err error) {
	socket, err = netDialer().DialContext(ctx, e.network, e.address)
	if err == nil {
		conn, err = e.secure(ctx, socket)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // what the socket says then is only a consequence
	}
	return socket, conn, err
}

// secure begins TLS on the socket where the endpoint wants it, and closes the
// socket when that fails or ctx ends meanwhile.
func (e endpoint) secure(ctx context.Context, socket net.Conn) (net.Conn, error) {
	if e.tls == nil {
		return socket, nil
	}
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	conn, err := e.handshake(ctx, socket)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		socket.Close()
		return nil, err
	}
	return conn, nil
}

func (e endpoint) handshake(ctx context.Context, socket net.Conn) (net.Conn, error) {
	if !e.direct {
		if err := requestTLS(socket); err != nil {
			return nil, err
		}
	}
	conn := tls.Client(socket, e.tls)
	return conn, conn.HandshakeContext(ctx)
}

// requestTLS reads one byte and no more, so that nothing sent in the clear can
// pass for what came through TLS.
func requestTLS(socket net.Conn) error {
	if _, err := io.WriteString(socket, sslRequest); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(socket, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return errNoTLS
	}
	return nil
}

// netDialer probes an idle connection, so that a dead link is noticed within
// 15 s. The probes are the only sign of it while a query waits for its answer.
func netDialer() *net.Dialer {
	return &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2,
	}}
}
