package wal

import (
	"net"
	"sync"
	"time"
)

// writeTimeout bounds the sending of a few bytes.
const writeTimeout = 10 * time.Second

// link is a connection whose reads end after a silence, and at once when it was
// interrupted. Reads belong to one goroutine; the rest may come from any.
type link struct {
	conn    net.Conn
	silence time.Duration

	writes sync.Mutex // one message at a time

	mu          sync.Mutex // guards what follows, and the deadline of reads
	interrupted bool
}

// Read waits for bytes, for as long as a living server may be silent.
func (l *link) Read(b []byte) (int, error) {
	l.mu.Lock()
	if !l.interrupted {
		_ = l.conn.SetReadDeadline(time.Now().Add(l.silence))
	}
	l.mu.Unlock()
	return l.conn.Read(b)
}

// interrupt ends the read that waits and all later ones.
func (l *link) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupted = true
	_ = l.conn.SetReadDeadline(time.Unix(1, 0))
}

func (l *link) write(b []byte) error {
	l.writes.Lock()
	defer l.writes.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(b)
	return err
}
