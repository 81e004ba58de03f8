package copier

// pairs knows an encoding whose characters of two bytes may end in one that is
// ASCII when it stands alone, a backslash for instance. PostgreSQL converts data
// before it looks for the ends of lines, so it does not see those. A nil one
// stands for any other encoding.
type pairs struct {
	first  func(byte) bool // begins a pair
	open   bool            // the data so far ends within one
	buffer []byte
}

// newPairs takes an encoding's name as PostgreSQL has it. These are all that
// clients may have and databases not, see "Supported Character Sets" in
// https://www.postgresql.org/docs/current/multibyte.html, but for JOHAB, of
// which PostgreSQL takes no second bytes that are ASCII. The four bytes of
// GB18030 are two pairs.
func newPairs(encoding string) *pairs {
	switch encoding {
	case "SJIS", "SHIFT_JIS_2004":
		return &pairs{first: func(c byte) bool { return c >= 0x80 && (c < 0xa1 || c > 0xdf) }}
	case "BIG5", "GBK", "UHC", "GB18030":
		return &pairs{first: func(c byte) bool { return c >= 0x80 }}
	}
	return nil
}

// mask returns the data with something that is no ASCII in the place of second
// bytes. It is valid until the next call.
func (m *pairs) mask(p []byte) []byte {
	if m == nil {
		return p
	}
	m.buffer = append(m.buffer[:0], p...)
	for i, c := range m.buffer {
		switch {
		case m.open:
			m.open, m.buffer[i] = false, 0xff
		case m.first(c):
			m.open = true
		}
	}
	return m.buffer
}
