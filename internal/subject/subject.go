// Package subject turns arbitrary strings into single NATS subject tokens
// and back. Every string has exactly one token, different strings have
// different tokens, and a token never holds a dot, a wildcard or a space. The
// one exception: the empty string's token is empty, which NATS does not
// accept inside a subject.
package subject

import (
	"errors"
	"fmt"
)

const hexDigits = "0123456789ABCDEF"

// Token returns s as one subject token: every byte outside A-Z a-z 0-9 _ -
// becomes % and two upper-case hexadecimal digits. A string that needs no
// escape is returned as it is, without an allocation.
func Token(s string) string {
	for i := range len(s) {
		if !plain(s[i]) {
			return string(AppendToken(make([]byte, 0, 3*len(s)), s))
		}
	}
	return s
}

// AppendToken appends Token(s) to dst and returns the extended buffer.
func AppendToken(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if plain(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// Untoken returns the string whose Token is token. It is strict: anything
// that Token cannot have made is an error, so that a string has no second
// name. A token that holds no escape is returned as it is.
func Untoken(token string) (string, error) {
	clean := true
	for i := range len(token) {
		clean = clean && plain(token[i])
	}
	if clean {
		return token, nil
	}
	s := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '%' {
			var err error
			if c, err = unescape(token[i:]); err != nil {
				return "", fmt.Errorf("decode token %q at byte %d: %w", token, i, err)
			}
			i += 2
		} else if !plain(c) {
			return "", fmt.Errorf("decode token %q at byte %d: the byte has to be escaped", token, i)
		}
		s = append(s, c)
	}
	return string(s), nil
}

// unescape returns the byte that the escape at the start of s stands for.
func unescape(s string) (byte, error) {
	if len(s) < 3 {
		return 0, errors.New("the escape is cut short")
	}
	high, ok1 := hexValue(s[1])
	low, ok2 := hexValue(s[2])
	if !ok1 || !ok2 {
		return 0, errors.New("an escape is % and two upper-case hexadecimal digits")
	}
	c := high<<4 | low
	if plain(c) {
		return 0, errors.New("the byte must not be escaped")
	}
	return c, nil
}

func hexValue(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// plain reports whether c stands for itself in a token.
func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
