// Package jsonscan finds the pieces of JSON text that is known to be valid, as
// encoding/json checks it. It looks at each byte once, copies nothing and
// allocates nothing, which is why the hot paths use it and not a decoder.
//
// What it returns for text that is not valid is unspecified, but it neither
// panics nor looks outside of the text.
package jsonscan

import "bytes"

// SkipSpace returns the index of the next byte from i on that is no JSON space,
// or len(s).
func SkipSpace(s []byte, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// ValueEnd returns the index after the JSON value that begins at i; len(s) where
// it has no end.
func ValueEnd(s []byte, i int) int {
	depth := 0
	for i < len(s) {
		switch s[i] {
		case '"':
			i = stringEnd(s, i)
		case '[', '{':
			depth++
			i++
		case ']', '}':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			i++
		default:
			i = literalEnd(s, i)
		}
		if depth <= 0 {
			return i
		}
	}
	return len(s)
}

func stringEnd(s []byte, i int) int {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

func literalEnd(s []byte, i int) int {
	if end := bytes.IndexAny(s[i:], ",:[]{}\" \t\r\n"); end >= 0 {
		return i + end
	}
	return len(s)
}

// IsObject reports whether the value is an object.
func IsObject(s []byte) bool {
	i := SkipSpace(s, 0)
	return i < len(s) && s[i] == '{'
}

// Members calls yield with every member of an object in their order: the key as
// it is written, with its quotes, and the value without the space around it.
// Both share the memory of s. It stops when yield returns false.
func Members(s []byte, yield func(key, value []byte) bool) {
	i := SkipSpace(s, 0)
	if i == len(s) || s[i] != '{' {
		return
	}
	for i++; ; i++ {
		key := SkipSpace(s, i)
		if key == len(s) || s[key] != '"' {
			return // the end of an empty object
		}
		keyEnd := stringEnd(s, key)
		colon := SkipSpace(s, keyEnd)
		value := SkipSpace(s, min(colon+1, len(s)))
		end := ValueEnd(s, value)
		if !yield(s[key:keyEnd], s[value:end]) {
			return
		}
		if i = SkipSpace(s, end); i == len(s) || s[i] != ',' {
			return
		}
	}
}
