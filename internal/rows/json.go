package rows

import (
	"bytes"
	"encoding/hex"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	errMalformed = errors.New("it is not valid JSON")
	errNUL       = errors.New("a string in it holds a NUL character, which PostgreSQL cannot store")
	errSurrogate = errors.New("a string in it holds half of a surrogate pair")
)

// unquote appends what a JSON string stands for.
func unquote(dst, s []byte) ([]byte, error) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return dst, errMalformed
	}
	s = s[1 : len(s)-1]
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...), nil
		}
		dst = append(dst, s[:i]...)
		r, size, err := unescape(s[i:])
		if err != nil {
			return dst, err
		}
		dst = utf8.AppendRune(dst, r)
		s = s[i+size:]
	}
}

// unescape returns the character of the escape that s begins with, and the
// escape's length.
func unescape(s []byte) (r rune, size int, err error) {
	if len(s) < 2 {
		return 0, 0, errMalformed
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2, nil
	case 'b':
		return '\b', 2, nil
	case 'f':
		return '\f', 2, nil
	case 'n':
		return '\n', 2, nil
	case 'r':
		return '\r', 2, nil
	case 't':
		return '\t', 2, nil
	}
	return unescapeUnicode(s)
}

func unescapeUnicode(s []byte) (r rune, size int, err error) {
	r, ok := codeUnit(s)
	switch {
	case !ok:
		return 0, 0, errMalformed
	case r == 0:
		return 0, 0, errNUL
	case !utf16.IsSurrogate(r):
		return r, 6, nil
	}
	low, _ := codeUnit(s[6:])
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, 0, errSurrogate
	}
	return r, 12, nil
}

// codeUnit returns the UTF-16 code unit of the escape that s begins with.
func codeUnit(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var unit [2]byte
	if _, err := hex.Decode(unit[:], s[2:6]); err != nil {
		return 0, false
	}
	return rune(unit[0])<<8 | rune(unit[1]), true
}
