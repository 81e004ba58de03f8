package rows

import (
	"bytes"
	"unicode/utf8"
)

// appendArray appends the text of an array, as array_out prints it. Anything
// else becomes a string.
//
// Source: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
func (t *Type) appendArray(dst, text []byte) []byte {
	if array, ok := t.elem.appendElements(dst, skipBounds(text)); ok {
		return array
	}
	return appendString(dst, text)
}

// skipBounds drops the bounds before an array, as in [0:1]={7,8}.
func skipBounds(text []byte) []byte {
	if len(text) > 0 && text[0] == '[' {
		if end := bytes.Index(text, []byte("]=")); end > 0 {
			return text[end+2:]
		}
	}
	return text
}

// appendElements appends an array of the type. It is false where the text is
// not one; what it appended then is of no use.
func (t *Type) appendElements(dst, text []byte) ([]byte, bool) {
	depth := 0
	for len(text) > 0 {
		if text[0] == '{' {
			dst = append(dst, '[')
			depth++
			text = text[1:]
			if len(text) == 0 || text[0] != '}' {
				continue
			}
		} else {
			var ok bool
			if dst, text, ok = t.appendElement(dst, text); !ok || depth == 0 {
				return dst, false
			}
		}
		for len(text) > 0 && text[0] == '}' && depth > 0 {
			dst = append(dst, ']')
			depth--
			text = text[1:]
		}
		if depth == 0 {
			return dst, len(text) == 0
		}
		if len(text) == 0 || text[0] != t.delimiter {
			return dst, false
		}
		dst = append(dst, ',')
		text = text[1:]
	}
	return dst, false
}

// appendElement appends the element that text begins with and returns what
// follows it.
func (t *Type) appendElement(dst, text []byte) (_, rest []byte, ok bool) {
	if text[0] == '"' {
		end := quotedEnd(text)
		if end < 0 {
			return dst, text, false
		}
		return t.appendQuoted(dst, text[1:end-1]), text[end:], true
	}
	end := bareEnd(text, t.delimiter)
	if end <= 0 {
		return dst, text, false
	}
	element := text[:end]
	if string(element) == "NULL" {
		element = nil
	}
	return t.appendJSON(dst, element), text[end:], true
}

// quotedEnd returns the length of the quoted element that text begins with, or
// -1 where its end is missing.
func quotedEnd(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// bareEnd returns the length of the element without quotes that text begins
// with, or -1 where it holds what has to be quoted.
func bareEnd(text []byte, delimiter byte) int {
	for i, c := range text {
		switch c {
		case delimiter, '}':
			return i
		case '{', '"', '\\':
			return -1
		}
	}
	return -1
}

// appendQuoted appends an element, given what stands between its quotes. Those
// types that usually have quotes get there without a copy.
func (t *Type) appendQuoted(dst, quoted []byte) []byte {
	switch {
	case t.form == formJSON && utf8.Valid(quoted):
		return appendUnescaped(dst, quoted, appendRaw)
	case t.form == formText:
		dst = append(dst, '"')
		dst = appendUnescaped(dst, quoted, appendEscaped)
		return append(dst, '"')
	}
	return t.appendJSON(dst, appendUnescaped(make([]byte, 0, len(quoted)), quoted, appendRaw))
}

// appendUnescaped appends quoted in runs without its backslashes. A run begins
// at the character after a backslash, which may be another one.
func appendUnescaped(dst, quoted []byte, appendRun func(dst, run []byte) []byte) []byte {
	start := 0
	for i := 0; i < len(quoted); i++ {
		if quoted[i] == '\\' {
			dst = appendRun(dst, quoted[start:i])
			i++
			start = i
		}
	}
	return appendRun(dst, quoted[start:])
}

func appendRaw(dst, run []byte) []byte { return append(dst, run...) }

// appendJSON appends a value's text, or null for a nil slice.
func (t *Type) appendJSON(dst, text []byte) []byte {
	if text == nil {
		return append(dst, "null"...)
	}
	switch t.form {
	case formBool:
		return appendBool(dst, text)
	case formNumber, formBigNumber:
		return appendNumber(dst, text)
	case formJSON:
		if utf8.Valid(text) { // SQL can have set another encoding, in which a backslash is part of a character
			return append(dst, text...)
		}
	case formArray:
		return t.appendArray(dst, text)
	}
	return appendString(dst, text)
}
