package rows

// Least returns a number of bytes that a row's JSON has at least, as an array or as an
// object: so many that what is no longer than limit by it does not become many times
// longer. Where the row cannot be longer than limit that is how long its values are.
//
// A control character is six bytes in JSON, so that a row is not to be written in order
// to see that it is too long.
func (c *Columns) Least(values [][]byte, objects bool, limit int) int {
	total := 0
	if objects {
		for i := range c.fields {
			total += len(valueAt(values, c.fields[i].column)) // of columns with one name the last is in it
		}
	} else {
		for _, v := range values {
			total += len(v)
		}
	}
	if total <= limit/escapedBytes {
		return total
	}
	total = 0
	if objects {
		for i := range c.fields {
			total += c.types[c.fields[i].column].least(valueAt(values, c.fields[i].column))
		}
		return total
	}
	for i, t := range c.types {
		total += t.least(valueAt(values, i))
	}
	return total
}

// escapedBytes is how long a byte can become in a JSON string.
const escapedBytes = len(`\u0001`)

func (t *Type) least(text []byte) int {
	switch t.form {
	case formText:
		return len(text) + added(text, true)
	case formArray:
		text = skipBounds(text)
		if t.elem.form == formJSON || t.elem.form == formArray { // their quotes are not escaped in JSON
			return len(text)/2 + added(text, false)
		}
		return len(text) + added(text, false)
	}
	return len(text)
}

// added is how many bytes escapes add to a text. An array's text has quotes and
// backslashes escaped already.
func added(text []byte, quotes bool) (n int) {
	for _, c := range text {
		switch {
		case c < ' ':
			n += escapeBytes(c) - 1
		case quotes && (c == '"' || c == '\\'):
			n++
		}
	}
	return n
}

func escapeBytes(c byte) int {
	switch c {
	case '\b', '\f', '\n', '\r', '\t':
		return len(`\n`)
	}
	return escapedBytes
}

// Sent is what PostgreSQL has sent for a row: its values and what stands before them. So
// NULLs count, and so do rows of nothing else, or of no columns at all.
func Sent(values [][]byte) int {
	n := rowBytes
	for _, v := range values {
		n += lengthBytes + len(v)
	}
	return n
}

// What PostgreSQL sends before the values of a row, and before each of them.
const rowBytes, lengthBytes = 7, 4
