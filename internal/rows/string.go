package rows

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const (
	hexDigits = "0123456789abcdef"

	// One byte of a 64-bit word, in all of its eight.
	eachByte  = 0x0101010101010101
	eachHigh  = 0x80 * eachByte
	eachSpace = ' ' * eachByte
	eachQuote = '"' * eachByte
	eachSlash = '\\' * eachByte
)

// appendString appends s as a JSON string.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	dst = appendEscaped(dst, s)
	return append(dst, '"')
}

// appendEscaped appends what stands between the quotes of a JSON string. A byte
// that is not UTF-8 becomes U+FFFD.
func appendEscaped(dst, s []byte) []byte {
	start := 0
	for i := 0; ; {
		i += plainPrefix(s[i:])
		if i == len(s) {
			return append(dst, s[start:]...)
		}
		if n := multibytePrefix(s[i:]); n > 0 {
			i += n
			continue
		}
		dst = append(dst, s[start:i]...)
		dst = appendEscape(dst, s[i])
		i++
		start = i
	}
}

// plainPrefix returns how many bytes s begins with that are ASCII and need no
// escape. It looks at eight at a time: a subtraction borrows, and so sets the
// highest bit, first in the byte that is below a space, a quote or a backslash;
// later bytes may be flagged wrongly, but only the first one counts.
func plainPrefix(s []byte) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		word := binary.LittleEndian.Uint64(s[i:])
		flagged := (word | (word - eachSpace) | ((word ^ eachQuote) - eachByte) | ((word ^ eachSlash) - eachByte)) & eachHigh
		if flagged != 0 {
			return i + bits.TrailingZeros64(flagged)/8
		}
	}
	for i < len(s) && isPlain(s[i]) {
		i++
	}
	return i
}

func isPlain(c byte) bool {
	return c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\'
}

// multibytePrefix returns how many bytes s begins with that are whole UTF-8
// characters beyond ASCII.
func multibytePrefix(s []byte) int {
	i := 0
	for i < len(s) && s[i] >= utf8.RuneSelf {
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		i += size
	}
	return i
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	if c >= utf8.RuneSelf {
		return utf8.AppendRune(dst, utf8.RuneError)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
