package session

import (
	"io"
	"net"
	"testing"
	"time"
)

// pair returns both ends of a connection.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := listener.Accept()
		accepted <- conn
	}()
	ours, err = net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs = <-accepted
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// peekUntil looks until it finds something, as what was sent arrives later.
func peekUntil(t *testing.T, conn net.Conn, want arrival) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10_000 {
		if peek(conn) == want {
			return
		}
		<-tick.C
	}
	t.Errorf("peek() = %d, want %d", peek(conn), want)
}

func TestPeek(t *testing.T) {
	t.Parallel()
	ours, theirs := pair(t)
	if got := peek(ours); got != arrivedNothing {
		t.Errorf("peek() = %d on a quiet connection, want %d", got, arrivedNothing)
	}
	if _, err := theirs.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	peekUntil(t, ours, arrivedUnknown)
	if b, err := io.ReadAll(io.LimitReader(ours, 1)); err != nil || string(b) != "x" {
		t.Errorf("then read %q, %v", b, err)
	}
	theirs.Close()
	peekUntil(t, ours, arrivedEnd)
	ours.Close()
	peekUntil(t, ours, arrivedEnd)
}

func TestPeekBesideAReader(t *testing.T) {
	t.Parallel()
	ours, theirs := pair(t)
	read := make(chan error, 1)
	go func() {
		_, err := ours.Read(make([]byte, 1))
		read <- err
	}()
	peeked := make(chan arrival, 1)
	go func() {
		found := arrivedNothing
		for range 1000 { // the reader may not be there yet
			found = max(found, peek(ours))
		}
		peeked <- found
	}()
	select {
	case got := <-peeked:
		if got != arrivedNothing {
			t.Errorf("peek() = %d, want %d", got, arrivedNothing)
		}
	case <-time.After(10 * time.Second):
		t.Error("peek waits for the reader")
	}
	if _, err := theirs.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
}
