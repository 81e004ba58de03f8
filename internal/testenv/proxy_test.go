package testenv

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo starts a server that sends back what it gets.
func echo(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(conn, conn); conn.Close() }()
		}
	}()
	return l
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func send(t *testing.T, conn net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(conn, s); err != nil {
		t.Fatal(err)
	}
}

func receive(conn net.Conn, within time.Duration, n int) (string, error) {
	got := make([]byte, n)
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	read, err := io.ReadFull(conn, got)
	return string(got[:read]), err
}

func wantReceived(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	if got, err := receive(conn, waitLimit, len(want)); got != want {
		t.Fatalf("received %q, %v, want %q", got, err, want)
	}
}

func wantSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	if got, err := receive(conn, 50*time.Millisecond, 1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("received %q, %v, want nothing", got, err)
	}
}

func TestProxyFreezesAndThaws(t *testing.T) {
	t.Parallel()
	proxy := NewProxy(t, echo(t).Addr().String())
	conn := dial(t, proxy.Addr())
	send(t, conn, "one")
	wantReceived(t, conn, "one")

	proxy.Freeze()
	proxy.Freeze()
	send(t, conn, "two")
	wantSilence(t, conn)
	late := dial(t, proxy.Addr())
	send(t, late, "late")
	wantSilence(t, late)

	proxy.Thaw()
	proxy.Thaw()
	wantReceived(t, conn, "two")
	wantReceived(t, late, "late")
	if links, accepted := proxy.Links(), proxy.Accepted(); links != 2 || accepted != 2 {
		t.Errorf("Links(), Accepted() = %d, %d, want 2, 2", links, accepted)
	}
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	proxy := NewProxy(t, echo(t).Addr().String())
	for _, freeze := range []bool{false, true} {
		conn := dial(t, proxy.Addr())
		send(t, conn, "x")
		wantReceived(t, conn, "x")
		if freeze {
			proxy.Freeze()
		}
		proxy.Cut()
		if got, err := receive(conn, waitLimit, 1); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("frozen %v: received %q, %v, want a closed connection", freeze, got, err)
		}
		Wait(t, waitLimit, "the link to be forgotten", func() bool { return proxy.Links() == 0 })
	}
}

func TestProxyPassesOnTheEnd(t *testing.T) {
	t.Parallel()
	server := echo(t)
	proxy := NewProxy(t, server.Addr().String())
	conn := dial(t, proxy.Addr())
	send(t, conn, "last words")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wantReceived(t, conn, "last words")
	if _, err := receive(conn, waitLimit, 1); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want EOF", err)
	}

	server.Close()
	refused := dial(t, proxy.Addr())
	if _, err := receive(refused, waitLimit, 1); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("without a server: %v, want a closed connection", err)
	}
}

func TestProxyFreezesPostgres(t *testing.T) {
	t.Parallel()
	pg := Postgres(t)
	proxy := NewProxy(t, pg.Addr())
	conn := connect(t, proxy.Reroute(t, pg.NewDatabase(t)))
	proxy.Freeze()
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(t.Context()) }()
	select {
	case err := <-answered:
		t.Errorf("a frozen link answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	proxy.Thaw()
	if err := <-answered; err != nil {
		t.Errorf("after Thaw: %v", err)
	}
}
