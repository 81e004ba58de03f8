package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
)

// accept starts a server for one connection and runs serve on it; the channel
// is closed when serve has returned.
func accept(t *testing.T, serve func(net.Conn)) (address string, done <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		serve(conn)
	}()
	t.Cleanup(func() { l.Close(); <-finished })
	return l.Addr().String(), finished
}

// answerTLS reads the request for TLS and gives an answer.
func answerTLS(conn net.Conn, answer string) {
	io.ReadFull(conn, make([]byte, len(sslRequest)))
	io.WriteString(conn, answer)
}

func tlsEndpoint(address string) endpoint {
	return endpoint{network: "tcp", address: address, host: "localhost", tls: &tls.Config{InsecureSkipVerify: true}}
}

func TestDialIsEndedAtEveryStage(t *testing.T) {
	t.Parallel()
	for stage, answer := range map[string]string{"waiting for the answer": "", "in the handshake": "S"} {
		for _, by := range []string{"Close", "context", "deadline of lib/pq's"} {
			t.Run(stage+" by "+by, func(t *testing.T) {
				t.Parallel()
				waiting := make(chan struct{})
				address, done := accept(t, func(conn net.Conn) {
					answerTLS(conn, answer)
					io.ReadFull(conn, make([]byte, len(answer))) // the handshake has begun
					close(waiting)
					io.Copy(io.Discard, conn) // until the client goes
				})
				ctx, cancel := context.WithCancel(deadline(t))
				dialing, expire := context.WithCancelCause(deadline(t))
				d := Target{at: tlsEndpoint(address)}.Dialer(ctx, "")
				defer d.Close()
				end, want := map[string]func(){
					"Close": d.Close, "context": cancel,
					"deadline of lib/pq's": func() { expire(context.DeadlineExceeded) },
				}[by], map[string]error{
					"Close": net.ErrClosed, "context": context.Canceled, "deadline of lib/pq's": context.DeadlineExceeded,
				}[by]
				go func() { <-waiting; end() }()
				if _, err := d.DialContext(dialing, "", ""); !errors.Is(err, want) {
					t.Errorf("DialContext = %v, want %v", err, want)
				}
				<-done // the socket was closed
				cancel()
				expire(nil)
			})
		}
	}
}

func TestDialerRefuses(t *testing.T) {
	t.Parallel()
	address, done := accept(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	target := Target{at: endpoint{network: "tcp", address: address, host: "localhost"}}

	closed := target.Dialer(t.Context(), "")
	closed.Close()
	if _, err := closed.Dial("", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial after Close = %v, want %v", err, net.ErrClosed)
	}

	ctx, cancel := context.WithCancel(t.Context())
	d := target.Dialer(ctx, "")
	conn, err := d.Dial("tcp", "256.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Dial("", ""); !errors.Is(err, errDialed) {
		t.Errorf("second Dial = %v, want %v", err, errDialed)
	}
	cancel()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Errorf("Write after the context ended = %v, want the connection open", err)
	}
	d.Close()
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close = %v, want %v", err, net.ErrClosed)
	}
	d.Close()
	<-done
}

func TestDialWithoutTLSOnTheServer(t *testing.T) {
	t.Parallel()
	address, _ := accept(t, func(conn net.Conn) { answerTLS(conn, "N") })
	d := Target{at: tlsEndpoint(address)}.Dialer(t.Context(), "")
	defer d.Close()
	_, err := d.Dial("", "")
	if !errors.Is(err, errNoTLS) || Explain(err).Kind != KindTLS {
		t.Errorf("Dial = %v (%s), want %v", err, Explain(err), errNoTLS)
	}
}

// A byte sent in the clear behind the S must not become part of the session.
func TestDialTakesNothingSentBeforeTLS(t *testing.T) {
	t.Parallel()
	address, _ := accept(t, func(conn net.Conn) { answerTLS(conn, "SR\x00\x00\x00\x08\x00\x00\x00\x00") })
	d := Target{at: tlsEndpoint(address)}.Dialer(t.Context(), "")
	defer d.Close()
	if _, err := d.Dial("", ""); err == nil {
		t.Error("Dial accepted what came before TLS")
	}
}

func TestDirectTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	protocol := make(chan string, 1)
	address, _ := accept(t, func(conn net.Conn) {
		server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "localhost").pair(t)}, NextProtos: []string{"postgresql"}})
		server.Handshake()
		protocol <- server.ConnectionState().NegotiatedProtocol
	})
	_, port, _ := net.SplitHostPort(address)
	s := mustParse(t, "host=127.0.0.1 user=a sslmode=verify-ca sslnegotiation=direct sslrootcert="+quote(ca.file(t))+" port="+port, Options{})
	d := mustTargets(t, s)[0].Dialer(t.Context(), "")
	defer d.Close()
	if _, err := d.DialContext(deadline(t), "", ""); err != nil {
		t.Fatal(err)
	}
	if got := <-protocol; got != "postgresql" {
		t.Errorf("protocol = %q, want postgresql", got)
	}
}
