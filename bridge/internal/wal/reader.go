package wal

import (
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"

	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	statusInterval = time.Second
	// defaultSilence is three times what a server that decodes a large
	// transaction takes to answer a status.
	defaultSilence = 15 * time.Second
	batchEvents    = 256
	batchBytes     = 256 << 10
)

// Config says what a [Reader] reads.
type Config struct {
	Slot        string // a logical slot with the plugin pgoutput
	Publication string // has to exist, and should be empty
	// Want chooses messages by their prefix. It must not keep it.
	Want func(prefix []byte) bool
	// MaxContent is how many bytes of content are kept. A larger message comes
	// without any.
	MaxContent int
	// Silence is after how long without a word the server counts as gone.
	// Default 15 s.
	Silence time.Duration
}

// Reader reads one slot. Run and Report are for one goroutine each and belong
// together; Confirm and Position are safe for concurrent use.
type Reader struct {
	conn    *link
	decoder *decoder

	confirmed atomic.Uint64
	position  atomic.Uint64 // the last one that the server told
	asked     wait.Signal   // the server wants a status
}

func newReader(conn net.Conn, c Config) *Reader {
	if c.Silence == 0 {
		c.Silence = defaultSilence
	}
	l := &link{conn: conn, silence: c.Silence}
	return &Reader{conn: l, decoder: newDecoder(l, c.Want, c.MaxContent), asked: wait.NewSignal()}
}

// Run reads until ctx ends, handle fails, or the connection does, and returns
// ctx's, handle's or the connection's error; what the server said is a
// *pgconn.PgError. It gives handle what has arrived, in order, at least one
// event at a time, the slice with it. While handle blocks nothing is read. The
// connection stays open for Report.
func (r *Reader) Run(ctx context.Context, handle func([]Event) error) error {
	stop := context.AfterFunc(ctx, r.conn.interrupt)
	defer stop()
	for {
		batch, err := r.batch()
		if len(batch) > 0 {
			if err := handle(batch); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// batch waits for an event and returns it with those that arrived with it.
func (r *Reader) batch() (batch []Event, err error) {
	for bytes := 0; ; {
		e, err := r.decoder.next()
		if err != nil {
			return batch, err
		}
		r.see(&e)
		batch = append(batch, e)
		bytes += len(e.Content)
		if len(batch) == batchEvents || bytes >= batchBytes || !r.decoder.ready() {
			return batch, nil
		}
	}
}

func (r *Reader) see(e *Event) {
	if e.Kind != KindMessage {
		r.position.Store(uint64(e.LSN))
	}
	if r.decoder.reply {
		r.decoder.reply = false
		r.asked.Raise()
	}
}

// Confirm says that everything before the position is safe: the server need not
// keep it. Give it positions of commits and of idleness only. It does not block;
// the next status carries it.
func (r *Reader) Confirm(position LSN) {
	for {
		old := r.confirmed.Load()
		if uint64(position) <= old || r.confirmed.CompareAndSwap(old, uint64(position)) {
			return
		}
	}
}

// Position returns the end of the last transaction that was read, or a later
// position before which there is nothing more; zero: none yet.
func (r *Reader) Position() LSN { return LSN(r.position.Load()) }

// Report sends a status every second, and whenever the server asks, until ctx
// ends, which is no error, or the connection does.
func (r *Reader) Report(ctx context.Context) error {
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	for {
		// An answer proves that the server lives, and says how far it has read.
		wantsReply := true
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.asked:
			wantsReply = false
		}
		if err := r.conn.write(r.status(wantsReply)); err != nil {
			return err
		}
	}
}

// status is a CopyData message with a standby status update.
func (r *Reader) status(wantsReply bool) []byte {
	confirmed := r.confirmed.Load()
	b := make([]byte, 0, 39)
	b = append(b, 'd', 0, 0, 0, 38, 'r')
	b = binary.BigEndian.AppendUint64(b, confirmed) // written
	b = binary.BigEndian.AppendUint64(b, confirmed) // flushed
	b = binary.BigEndian.AppendUint64(b, confirmed) // applied
	b = binary.BigEndian.AppendUint64(b, uint64(time.Now().UnixMicro()-postgresEpoch))
	if wantsReply {
		return append(b, 1)
	}
	return append(b, 0)
}

// Close sends what was confirmed last and ends the connection. It blocks for
// some seconds at most.
func (r *Reader) Close() {
	if r.conn.write(r.status(false)) == nil {
		_ = r.conn.write([]byte{'c', 0, 0, 0, 4, 'X', 0, 0, 0, 4}) // CopyDone, Terminate
	}
	r.conn.conn.Close()
}
