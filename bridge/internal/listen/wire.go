package listen

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"github.com/pgbridge/pgbridge/internal/inlet"
)

// maxRowBytes bounds the row that a statement may return.
const maxRowBytes = 16 << 10

// wire is the link below a pq.Listener. The listener's only commands are LISTEN
// and UNLISTEN of one channel, and a ping, which is an empty query whatever it
// returns. So a statement travels in the place of the next ping's query, and
// its first row is read as it passes by. What the server sends is looked at before
// lib/pq gets it.
type wire struct {
	net.Conn
	statement atomic.Pointer[string] // instead of the next query

	strict inlet.Strict // owned by the goroutine that reads

	mu  sync.Mutex // guards what follows
	row []string   // the first since statement was set
}

// dialing is a pq.Dialer whose one connection is a wire.
type dialing struct {
	pq.DialerContext
	wire *wire
}

func (d *dialing) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *dialing) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// DialContext implements pq.DialerContext.
func (d *dialing) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.DialerContext.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.wire.Conn = conn
	d.wire.strict = inlet.Strict{From: conn, Row: d.wire.keep}
	return d.wire, nil
}

// carry sets the statement that takes the place of the next query, and forgets
// the row of the one before.
func (w *wire) carry(statement string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.row = nil
	w.statement.Store(&statement)
}

// brought returns the first row that came since carry, columns as text and NULL
// as an empty one; nil: none.
func (w *wire) brought() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.row
}

// Write sends a query's message with the statement that waits in place of its own.
func (w *wire) Write(p []byte) (int, error) {
	if len(p) == 0 || p[0] != 'Q' {
		return w.Conn.Write(p)
	}
	statement := w.statement.Swap(nil)
	if statement == nil {
		return w.Conn.Write(p)
	}
	m := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(*statement)+1))
	if _, err := w.Conn.Write(append(append(m, *statement...), 0)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *wire) Read(p []byte) (int, error) { return w.strict.Read(p) }

// keep notes the first row of a statement's.
func (w *wire) keep(values [][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.row != nil || size(values) > maxRowBytes {
		return
	}
	w.row = make([]string, len(values))
	for i, v := range values {
		w.row[i] = string(v)
	}
}

func size(values [][]byte) (n int) {
	for _, v := range values {
		n += len(v)
	}
	return n
}
