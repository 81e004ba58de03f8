package inlet

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

const (
	// strictBytes is how long a message may be that lib/pq gets. A notification has 8 KB
	// and an error may quote a statement of ours.
	strictBytes = 1 << 20
	readBytes   = 32 << 10
)

// Strict reads what a server sends and lets through whole messages that have the form
// which their kind has, and are of a kind that a session without COPY has. lib/pq
// believes all of that, in a goroutine whose panic nobody can recover from. The zero
// value with From is ready. Its methods are for one goroutine.
type Strict struct {
	From io.Reader
	// Row is called for each row, whose values it must not keep; nil: for none.
	Row func(values [][]byte)

	raw     []byte // read and not looked at yet
	out     []byte // looked at, to be read by lib/pq
	buffer  []byte // what both are parts of, in this order
	columns int    // of the rows that come
	fault   error  // why nothing more is read
}

// Read implements [io.Reader]. An error of the form is an [ErrForm].
func (s *Strict) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if s.fault != nil {
			return 0, s.fault
		}
		s.fault = s.fill()
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// fill reads more, and moves what is complete to out. There, nothing is left.
func (s *Strict) fill() error {
	if s.buffer == nil {
		s.buffer = make([]byte, readBytes)
	}
	have := copy(s.buffer, s.raw)
	if have == len(s.buffer) { // twice what has come
		s.buffer = append(s.buffer, make([]byte, have)...)
	}
	n, err := s.From.Read(s.buffer[have:])
	s.raw = s.buffer[:have+n]
	whole, fault := s.whole()
	s.out, s.raw = s.raw[:whole], s.raw[whole:]
	if fault != nil {
		return fault
	}
	if len(s.raw) == 0 && len(s.buffer) > readBytes {
		s.buffer = nil // out still has it
	}
	return err
}

// whole is how many bytes complete messages have that are well formed.
func (s *Strict) whole() (n int, err error) {
	for len(s.raw)-n >= headerBytes {
		kind, size := s.raw[n], int(binary.BigEndian.Uint32(s.raw[n+1:]))
		if size < 4 || size > strictBytes {
			return n, fmt.Errorf("%w: a message of kind %q that has %d bytes", ErrForm, kind, size)
		}
		if len(s.raw)-n < size+1 {
			break
		}
		if !s.wellFormed(kind, s.raw[n+headerBytes:n+size+1]) {
			return n, fmt.Errorf("%w: a message of kind %q that is not well formed, or has no place here", ErrForm, kind)
		}
		n += size + 1
	}
	return n, nil
}

// wellFormed reports whether the body of a message is what its kind says.
// https://www.postgresql.org/docs/current/protocol-message-formats.html
func (s *Strict) wellFormed(kind byte, body []byte) bool {
	switch b := cursor(body); kind {
	case 'A':
		return b.skip(4) && b.texts(2) && len(b) == 0
	case 'C':
		return b.text() && len(b) == 0
	case 'D':
		return s.row(b)
	case 'E', 'N':
		return b.report()
	case 'I':
		return len(b) == 0
	case 'K':
		return len(b) >= 4 // a pooler can have no key
	case 'R':
		return b.authentication()
	case 'S':
		return b.texts(2) && len(b) == 0
	case 'T':
		return s.description(b)
	case 'Z':
		s.columns = 0
		return len(b) == 1 && strings.IndexByte("ITE", b[0]) >= 0
	case 'v':
		return len(b) >= 8
	}
	return false
}

// row looks at a DataRow.
func (s *Strict) row(b cursor) bool {
	n, ok := b.count()
	if !ok || n != s.columns {
		return false
	}
	values := make([][]byte, n)
	for i := range values {
		if values[i], ok = b.value(); !ok {
			return false
		}
	}
	if s.Row != nil && len(b) == 0 {
		s.Row(values)
	}
	return len(b) == 0
}

// description looks at a RowDescription of a simple query, whose rows are text.
func (s *Strict) description(b cursor) bool {
	n, ok := b.count()
	for range n {
		// Behind the name: table, column, type, its length and modifier, and the format.
		if !b.text() || len(b) < 18 || b[16] != 0 || b[17] != 0 {
			return false
		}
		b.skip(18)
	}
	s.columns = n
	return ok && len(b) == 0
}
