package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// open returns the socket and the connection on it, the same without TLS.
func (e endpoint) open(ctx context.Context) (socket, conn net.Conn, err error) {
	socket, err = e.connect(ctx)
	if err == nil {
		conn, err = e.secure(ctx, socket)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // what the socket says then is only a consequence
	}
	return socket, conn, err
}

// connect returns the socket alone.
func (e endpoint) connect(ctx context.Context) (net.Conn, error) {
	if e.dial == nil {
		return tcp{}.dialer().DialContext(ctx, e.network, e.address)
	}
	return e.dial(ctx, e.network, e.address)
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

// errNoTLS is the server's answer N to a request for TLS. The words are pgx's.
var errNoTLS = errors.New("server refused TLS connection")

// sslRequest asks a server for TLS before anything else is said.
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
