package copier

import (
	"bytes"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// csvTakesMarker is the first major version of PostgreSQL to which \. is no end
// of data in CSV.
const csvTakesMarker = 18

// endMarker looks for a line \. in data for PostgreSQL, which ignores silently
// what follows it: see "Text Format" and "CSV Format" in
// https://www.postgresql.org/docs/current/sql-copy.html, and CopyReadLineText in
// https://github.com/postgres/postgres/blob/REL_17_STABLE/src/backend/commands/copyfromparse.c,
// whose rules these are. A nil one finds nothing.
//
//	data ─ \ ─► backslash ─ . ─► dot ─ newline ─► over ─ anything ─► refused
//	  ▲             │             │
//	  └── another ──┴─────────────┘
type endMarker struct {
	csv    bool
	quote  byte // of CSV
	escape byte // of CSV; 0: the same as quote
	pairs  *pairs
	state  markerState

	previous byte // of CSV, the last one before
	quoted   bool // of CSV
	escaped  bool // of CSV: the next byte is, if it is a quote
}

type markerState uint8

const (
	markerData markerState = iota
	markerBackslash
	markerDot
	markerReturn // \. and a carriage return: a newline may follow
	markerOver
)

// newEndMarker returns what looks through data that is read so.
func newEndMarker(r reading) *endMarker {
	if r.format == script.Binary || r.format == script.CSV && r.major >= csvTakesMarker {
		return nil
	}
	m := &endMarker{csv: r.format == script.CSV, quote: r.quote, previous: '\n'}
	if r.escape != r.quote {
		m.escape = r.escape
	}
	if !r.ascii {
		m.pairs = newPairs(r.encoding)
	}
	return m
}

// check looks through more data.
func (m *endMarker) check(p []byte) error {
	if m == nil || m.scan(m.pairs.mask(p)) {
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest, `a line \. is followed by more data, which PostgreSQL would ignore`)
}

// scan reports false when data follows the marker.
func (m *endMarker) scan(p []byte) bool {
	for len(p) > 0 {
		if m.state == markerData {
			p = m.skip(p)
			continue
		}
		c := p[0]
		switch {
		case m.state == markerOver, m.state == markerReturn && c != '\n':
			return false
		case m.state == markerReturn, m.state == markerDot && c == '\n':
			m.state = markerOver
		case m.state == markerDot && c == '\r':
			m.state = markerReturn
		case m.state == markerBackslash && c == '.':
			m.state = markerDot
		default:
			escaped := !m.csv && m.state == markerBackslash
			m.state = markerData
			if !escaped {
				continue // it is data like any other
			}
		}
		if m.csv {
			m.pass(p[:1])
		}
		p = p[1:]
	}
	return true
}

// skip returns what follows the next backslash that may begin a marker.
func (m *endMarker) skip(p []byte) []byte {
	i := bytes.IndexByte(p, '\\')
	before := p
	if i >= 0 {
		before = p[:i]
	}
	if m.csv {
		m.pass(before)
	}
	if i < 0 {
		return nil
	}
	if !m.csv || m.beginsLine() {
		m.state = markerBackslash
	}
	if m.csv {
		m.pass(p[i : i+1])
	}
	return p[i+1:]
}

func (m *endMarker) beginsLine() bool {
	return !m.quoted && (m.previous == '\n' || m.previous == '\r')
}

// pass keeps what CSV data says of the place behind it.
func (m *endMarker) pass(p []byte) {
	if len(p) == 0 {
		return
	}
	m.previous = p[len(p)-1]
	if m.escape == 0 {
		if bytes.Count(p, []byte{m.quote})%2 == 1 {
			m.quoted = !m.quoted
		}
		return
	}
	for _, c := range p {
		if m.quoted && c == m.escape {
			m.escaped = !m.escaped
		}
		if c == m.quote && !m.escaped {
			m.quoted = !m.quoted
		}
		if c != m.escape {
			m.escaped = false
		}
	}
}

// lines counts the rows in data, as far as that can be seen.
func lines(format script.Format, p []byte) int {
	if format == script.Binary {
		return 0
	}
	return bytes.Count(p, []byte{'\n'})
}
