package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the write-ahead log, a count of bytes. Zero is none.
type LSN uint64

// String writes the position as PostgreSQL does: 16/B374D848.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads what [LSN.String] or PostgreSQL writes.
func ParseLSN(s string) (LSN, error) {
	high, low, found := strings.Cut(s, "/")
	if found {
		h, errHigh := strconv.ParseUint(high, 16, 32)
		l, errLow := strconv.ParseUint(low, 16, 32)
		if errHigh == nil && errLow == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fmt.Errorf("%q is not a position in the write-ahead log", s)
}
