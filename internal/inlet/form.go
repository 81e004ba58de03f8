package inlet

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
)

// maxIterations is how often a server may have a password hashed. PostgreSQL's own
// default is 4,096, and pgx has the same limit.
const maxIterations = 10_000_000

// cursor is what is left of a message's body.
type cursor []byte

func (b *cursor) skip(n int) bool {
	if len(*b) < n {
		return false
	}
	*b = (*b)[n:]
	return true
}

// text skips a text and the NUL behind it.
func (b *cursor) text() bool {
	end := bytes.IndexByte(*b, 0)
	return end >= 0 && b.skip(end+1)
}

// texts skips so many.
func (b *cursor) texts(n int) bool {
	for range n {
		if !b.text() {
			return false
		}
	}
	return true
}

// count reads how many there are of something.
func (b *cursor) count() (n int, ok bool) {
	if len(*b) < 2 {
		return 0, false
	}
	n = int(binary.BigEndian.Uint16(*b))
	return n, b.skip(2)
}

// value reads a column's value; nil is NULL.
func (b *cursor) value() (value []byte, ok bool) {
	if len(*b) < 4 {
		return nil, false
	}
	n := int32(binary.BigEndian.Uint32(*b))
	*b = (*b)[4:]
	if n < 0 {
		return nil, n == -1
	}
	if int(n) > len(*b) {
		return nil, false
	}
	value = (*b)[:n:n]
	return value, b.skip(int(n))
}

// report looks at an error or a notice: fields with a letter and a text each.
func (b *cursor) report() bool {
	for len(*b) > 0 {
		if (*b)[0] == 0 {
			return len(*b) == 1
		}
		if !b.skip(1) || !b.text() {
			return false
		}
	}
	return false
}

// What is asked for to let us in.
const (
	authenticationMD5  = 5
	authenticationSASL = 10
	saslContinue       = 11
)

// authentication looks at a request for a password, and at how much work it makes.
func (b *cursor) authentication() bool {
	if len(*b) < 4 {
		return false
	}
	request := binary.BigEndian.Uint32(*b)
	rest := (*b)[4:]
	switch request {
	case authenticationMD5:
		return len(rest) == 4
	case authenticationSASL:
		return len(rest) > 0
	case saslContinue:
		return bearable(string(rest))
	}
	return true
}

// bearable reports whether SCRAM's first answer has a password hashed no more often than
// can be waited for. https://www.rfc-editor.org/rfc/rfc5802#section-5.1
func bearable(answer string) bool {
	for attribute := range strings.SplitSeq(answer, ",") {
		if times, found := strings.CutPrefix(attribute, "i="); found {
			n, err := strconv.Atoi(times)
			return err == nil && n > 0 && n <= maxIterations
		}
	}
	return false
}
