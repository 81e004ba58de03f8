package wal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	bufferBytes   = 128 << 10
	maxErrorBytes = 64 << 10
	maxPrefix     = 256 // a longer one is nobody's here
)

// errEnded is how a server says goodbye: it shuts down.
var errEnded = errors.New("the server ended the replication")

// errTooEarly is for what nobody has asked for: a transaction that is only prepared, or not
// even that.
var errTooEarly = errors.New("the slot gives transactions that have not committed")

// postgresEpoch is where PostgreSQL's clock begins, in microseconds of Unix's.
const postgresEpoch = 946684800 * 1_000_000

func serverTime(micros uint64) time.Time { return time.UnixMicro(int64(micros) + postgresEpoch).UTC() }

// decoder reads the server's messages one after the other and keeps of them
// what [Event] holds.
type decoder struct {
	r    *bufio.Reader
	want func(prefix []byte) bool
	max  int // bytes of content that are kept
	left int // bytes of the current message not read yet

	commit LSN       // of the transaction that is being read; 0: none
	time   time.Time // of that commit
	sent   time.Time // when the server sent the current message, by its clock
	prefix string    // the last one, which mostly is the next one too
	reply  bool      // the server asked for a status
}

func newDecoder(r io.Reader, want func([]byte) bool, max int) *decoder {
	return &decoder{r: bufio.NewReaderSize(r, bufferBytes), want: want, max: max}
}

// next returns the next event. Any error is the connection's end.
func (d *decoder) next() (Event, error) {
	for {
		kind, err := d.message()
		if err != nil {
			return Event{}, err
		}
		var e Event
		switch kind {
		case 'd':
			e, err = d.data()
		case 'E':
			return Event{}, d.fault()
		case 'c', 'C', 'Z': // CopyDone and what follows it
			return Event{}, errEnded
		}
		if err == nil {
			err = d.skip(d.left)
		}
		if err != nil || e.Kind != 0 {
			return e, err
		}
	}
}

// message reads a message's head: its kind and its length, which counts itself.
func (d *decoder) message() (kind byte, err error) {
	head, err := d.r.Peek(5)
	if err != nil {
		return 0, unexpected(err)
	}
	kind = head[0]
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length > 1<<30+1<<20 {
		return 0, fmt.Errorf("malformed message of kind %q: its length is %d", kind, length)
	}
	_, _ = d.r.Discard(5)
	d.left = int(length) - 4
	return kind, nil
}

// unexpected makes an end between two messages as much of a fault as one inside.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// data reads the head of a CopyData message.
func (d *decoder) data() (Event, error) {
	kind, err := d.byte()
	if err != nil {
		return Event{}, err
	}
	switch kind {
	case 'k':
		return d.keepalive()
	case 'w':
		b, err := d.fixed(24) // start and end of what was sent so far, and when this was
		if err != nil {
			return Event{}, err
		}
		d.sent = serverTime(binary.BigEndian.Uint64(b[16:]))
		return d.change()
	}
	return Event{}, nil
}

// keepalive says how far the server has read. Inside a transaction that is of
// no use: everything before the transaction's end is confirmed with it.
func (d *decoder) keepalive() (Event, error) {
	b, err := d.fixed(17)
	if err != nil {
		return Event{}, err
	}
	d.reply = d.reply || b[16] != 0
	if d.commit != 0 {
		return Event{}, nil
	}
	return Event{Kind: KindIdle, LSN: lsnAt(b), Time: serverTime(binary.BigEndian.Uint64(b[8:]))}, nil
}

// change reads one message of pgoutput. Those of tables and types are skipped.
func (d *decoder) change() (Event, error) {
	kind, err := d.byte()
	if err != nil {
		return Event{}, err
	}
	switch kind {
	case 'B':
		b, err := d.fixed(20)
		if err != nil {
			return Event{}, err
		}
		d.commit, d.time = lsnAt(b), d.committed(b[8:])
		return Event{}, nil
	case 'C':
		b, err := d.fixed(25)
		if err != nil {
			return Event{}, err
		}
		d.commit = 0
		return Event{Kind: KindCommit, Commit: lsnAt(b[1:]), LSN: lsnAt(b[9:]), Time: d.committed(b[17:])}, nil
	case 'M':
		return d.logical()
	case 'b', 'S':
		return Event{}, errTooEarly
	}
	return Event{}, nil
}

// committed reads when a transaction committed. Where it came from another server that
// server's clock has told it, which may be ahead: it is before it was sent at any rate.
func (d *decoder) committed(b []byte) time.Time {
	at := serverTime(binary.BigEndian.Uint64(b))
	if at.After(d.sent) {
		return d.sent
	}
	return at
}

// logical reads a logical message. One that is not transactional comes whether
// its transaction committed or not, so it is no event.
func (d *decoder) logical() (Event, error) {
	b, err := d.fixed(9)
	if err != nil {
		return Event{}, err
	}
	lsn := lsnAt(b[1:])
	transactional := b[0]&1 != 0 && d.commit != 0
	prefix, known, err := d.prefixOf()
	if err != nil || !known || !transactional || !d.want(prefix) {
		return Event{}, err
	}
	if d.prefix != string(prefix) {
		d.prefix = string(prefix)
	}
	d.discard(len(prefix) + 1)
	if b, err = d.fixed(4); err != nil {
		return Event{}, err
	}
	e := Event{Kind: KindMessage, LSN: lsn, Commit: d.commit, Time: d.time, Prefix: d.prefix, Size: int(binary.BigEndian.Uint32(b))}
	if e.Size != d.left {
		return Event{}, fmt.Errorf("malformed logical message: content of %d bytes in a rest of %d", e.Size, d.left)
	}
	if e.Size > d.max {
		return e, nil
	}
	e.Content = make([]byte, e.Size)
	if _, err := io.ReadFull(d.r, e.Content); err != nil {
		return Event{}, unexpected(err)
	}
	d.left = 0
	return e, nil
}

// prefixOf looks at the prefix ahead, which is valid until something is read.
// One that is longer than any of ours is not known.
func (d *decoder) prefixOf() (prefix []byte, known bool, err error) {
	for n := min(16, d.left); ; n = min(2*n, d.left, maxPrefix) {
		ahead, err := d.r.Peek(n)
		if err != nil {
			return nil, false, unexpected(err)
		}
		if end := bytes.IndexByte(ahead, 0); end >= 0 {
			return ahead[:end], true, nil
		}
		if n == min(d.left, maxPrefix) {
			return nil, false, nil
		}
	}
}

// fault reads an ErrorResponse.
func (d *decoder) fault() error {
	b, err := d.fixed(min(d.left, maxErrorBytes))
	if err != nil {
		return err
	}
	var response pgproto3.ErrorResponse
	if err := response.Decode(b); err != nil {
		return fmt.Errorf("malformed error: %w", err)
	}
	return pgconn.ErrorResponseToPgError(&response)
}

func (d *decoder) byte() (byte, error) {
	b, err := d.fixed(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// fixed reads n bytes of the current message, which are valid until the next
// read.
func (d *decoder) fixed(n int) ([]byte, error) {
	if n > d.left {
		return nil, fmt.Errorf("malformed message: it ends %d bytes early", n-d.left)
	}
	b, err := d.r.Peek(n)
	if err != nil {
		return nil, unexpected(err)
	}
	d.discard(n)
	return b, nil
}

// discard drops bytes that were looked at.
func (d *decoder) discard(n int) {
	_, _ = d.r.Discard(n)
	d.left -= n
}

// skip reads over n bytes of the current message without keeping any.
func (d *decoder) skip(n int) error {
	if n > d.left {
		return fmt.Errorf("malformed message: it ends %d bytes early", n-d.left)
	}
	skipped, err := d.r.Discard(n)
	d.left -= skipped
	return unexpected(err)
}

func lsnAt(b []byte) LSN { return LSN(binary.BigEndian.Uint64(b)) }

// ready reports whether the next message is here as a whole.
func (d *decoder) ready() bool {
	buffered := d.r.Buffered()
	if buffered < 5 {
		return false
	}
	head, err := d.r.Peek(5)
	return err == nil && uint64(buffered) > uint64(binary.BigEndian.Uint32(head[1:]))
}
