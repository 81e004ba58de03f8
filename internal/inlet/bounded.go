package inlet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/budget"
)

const (
	// smallMessage is how long a message of PostgreSQL's may be that is taken
	// without asking. Of a larger error or notice that much is kept.
	smallMessage = 64 << 10
	keptOfError  = 16 << 10
)

// bounded reads what PostgreSQL sends and takes memory of a budget for each large
// row before the row is read. One that gets none is an error of the statement's in
// its place, and the rest of the answer up to ReadyForQuery is thrown away: the
// session goes on. https://www.postgresql.org/docs/current/protocol-message-formats.html
//
// Small messages pass as they come, many with one read. What is longer than its kind
// can be ends the connection.
type bounded struct {
	from   io.Reader
	hold   *budget.Hold  // of the large row being read; nil: rows have a fixed limit
	names  parameters    // that the server has told
	order  order         // of the messages
	short  bool          // the message at the beginning of raw has to be read further
	fault  error         // why nothing more is read
	left   int           // bytes of a message that still pass
	skip   int           // bytes of a message that still are thrown away
	mute   bool          // all is thrown away until ReadyForQuery
	keep   *bytes.Buffer // the beginning of an error, while it is being read
	ready  []byte        // to be passed before anything else
	raw    []byte        // read and not looked at yet
	buffer []byte        // what raw is a part of
}

// Frontend returns what a connection's messages are read with: its large rows take
// memory of b in owner's name; nil means that they have a fixed limit.
func Frontend(b *budget.Budget, owner string) func(io.Reader, io.Writer) *pgproto3.Frontend {
	return func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		from := &bounded{from: r}
		if b != nil {
			from.hold = b.Hold(owner)
		}
		return pgproto3.NewFrontend(from, w)
	}
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case len(b.ready) > 0:
			n := copy(p, b.ready)
			b.ready = b.ready[n:]
			return n, nil
		case b.fault != nil:
			return 0, b.fault
		case len(b.raw) > 0 && !b.short && (b.left > 0 || b.skip > 0 || len(b.raw) >= headerBytes):
			if n := b.pass(p); n > 0 {
				return n, nil
			}
		case len(b.raw) == 0 && b.left > 0 && len(p) >= smallMessage:
			// A large row goes to where it is wanted, without a copy.
			n, err := b.from.Read(p[:min(len(p), b.left)])
			b.left -= n
			return n, err
		default:
			if err := b.fill(); err != nil {
				return 0, err
			}
		}
	}
}

// fill reads more, behind the beginning of a header that may be there.
func (b *bounded) fill() error {
	if b.buffer == nil {
		b.buffer = make([]byte, smallMessage)
	}
	have := copy(b.buffer, b.raw)
	n, err := b.from.Read(b.buffer[have:])
	b.raw, b.short = b.buffer[:have+n], false
	if n > 0 {
		return nil
	}
	return err
}

// pass looks at what was read and copies to p what passes, as much as there is
// in one piece.
func (b *bounded) pass(p []byte) int {
	n := 0
	for n < len(p) && n < len(b.raw) {
		switch {
		case b.left > 0:
			step := min(b.left, len(b.raw)-n, len(p)-n)
			b.left -= step
			n += step
		case n > 0 && (b.skip > 0 || len(b.raw)-n < headerBytes):
			return b.advance(p, n)
		case b.skip > 0:
			b.discard()
			return 0
		case len(b.raw)-n < headerBytes:
			return b.advance(p, n)
		case !b.message(b.raw[n:n+headerBytes], n):
			return b.advance(p, n)
		}
	}
	return b.advance(p, n)
}

// advance hands out the first n bytes of what was read.
func (b *bounded) advance(p []byte, n int) int {
	copy(p, b.raw[:n])
	b.raw = b.raw[n:]
	return n
}

// discard throws away what is to be skipped, but for the beginning of an error.
func (b *bounded) discard() {
	step := min(b.skip, len(b.raw))
	if b.keep != nil {
		b.keep.Write(b.raw[:min(step, keptOfError-b.keep.Len())])
	}
	b.raw = b.raw[step:]
	if b.skip -= step; b.skip == 0 && b.keep != nil {
		b.ready = shortened(b.keep.Bytes())
		b.keep = nil
	}
}

// message decides about one whose header begins at n: true means that it passes.
// Else what is before it has to be handed out first, or it is to be skipped, or more of
// it has to be read.
func (b *bounded) message(header []byte, n int) bool {
	kind, size := header[0], int(binary.BigEndian.Uint32(header[1:]))
	if b.hold != nil && b.hold.Bytes() > 0 {
		b.hold.Close()
	}
	if b.fault = outOfBounds(kind, size, b.order.known, b.hold != nil); b.fault == nil {
		b.fault = b.order.next(kind)
	}
	if b.fault != nil {
		return false
	}
	refused := b.judge(kind, size, n)
	switch {
	case b.short:
		return false
	case refused == nil:
		b.left = size + 1
		return true
	case n > 0:
		return false // it is looked at again
	}
	b.refuse(refused, size)
	return false
}

// judge says why a message that begins at n is not to pass; nil means that it is.
func (b *bounded) judge(kind byte, size, n int) error {
	switch {
	case kind == 'Z':
		b.mute = false
	case b.mute:
		return errMuted
	case kind == 'S':
		return b.parameter(size, n)
	case size <= smallMessage:
	case kind == 'D' || kind == 'd':
		if b.hold != nil {
			return b.hold.Grow(size)
		}
	case kind == 'N':
		return errMuted
	case kind == 'E':
		return errShortened
	}
	return nil
}

// parameter looks at a ParameterStatus, which is known by its name when all of it is
// there.
func (b *bounded) parameter(size, n int) error {
	switch {
	case size > parameterBytes:
		return errMuted
	case len(b.raw)-n < size+1:
		b.short = true
		return nil
	case !b.names.admit(b.raw[n+headerBytes : n+size+1]):
		return errMuted
	}
	return nil
}

var (
	errMuted     = errors.New("thrown away")
	errShortened = errors.New("shortened")
)

// refuse skips the message at the beginning of what was read, and puts something in
// its place.
func (b *bounded) refuse(why error, size int) {
	switch {
	case errors.Is(why, errMuted):
	case errors.Is(why, errShortened):
		b.keep = new(bytes.Buffer)
		b.raw = b.raw[headerBytes:] // the rest is kept
		b.skip = size - headerBytes + 1
		return
	default:
		b.mute, b.order.open = true, false
		b.ready = failure(why)
	}
	b.skip = size + 1
}

// failure is an error as PostgreSQL would send it.
func failure(why error) []byte {
	state := StateNoMemory
	if errors.Is(why, budget.ErrTooLarge) {
		state = StateTooLarge
	}
	e := pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: state, Message: why.Error(), Routine: Routine}
	message, err := e.Encode(nil)
	if err != nil {
		return nil // such a short one always fits
	}
	return message
}

// shortened is an error's message with what was kept of its body.
func shortened(body []byte) []byte {
	message := binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(body)+2))
	message = append(message, body...)
	return append(message, 0, 0) // ends a text and the list of texts
}
