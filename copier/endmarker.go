package copier

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// csvTakesMarker is the first major version of PostgreSQL to which \. is no end
// of data in CSV.
const csvTakesMarker = 18

// otherQuotes finds the options with which the quotes of a CSV are unknown.
var otherQuotes = regexp.MustCompile(`(?i)\b(quote|escape)\b`)

// endMarker looks for a line \. in data for PostgreSQL, which ignores silently
// what follows it: see "Text Format" and "CSV Format" in
// https://www.postgresql.org/docs/current/sql-copy.html. A nil one finds
// nothing.
//
//	data ─ \ ─► backslash ─ . ─► dot ─ newline ─► over ─ anything ─► refused
//	  ▲             │             │
//	  └── another ──┴─────────────┘
type endMarker struct {
	csv   bool
	quote string // of CSV; empty: not known
	state markerState

	previous byte // of CSV, the last one before
	quoted   bool // of CSV
}

type markerState uint8

const (
	markerData markerState = iota
	markerBackslash
	markerDot
	markerReturn // \. and a carriage return: a newline may follow
	markerOver
)

// newEndMarker returns what looks through the data of a COPY.
func newEndMarker(format script.Format, sql, serverVersion string) *endMarker {
	switch format {
	case script.Text:
		return &endMarker{}
	case script.CSV:
		major, _, _ := strings.Cut(serverVersion, ".")
		if n, err := strconv.Atoi(major); err == nil && n >= csvTakesMarker {
			return nil
		}
		m := &endMarker{csv: true, quote: `"`, previous: '\n'}
		if otherQuotes.MatchString(sql) {
			m.quote = ""
		}
		return m
	}
	return nil
}

// check looks through more data.
func (m *endMarker) check(p []byte) error {
	if m == nil || m.scan(p) {
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
		m.previous, p = c, p[1:]
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
	if !m.csv || !m.quoted && (m.previous == '\n' || m.previous == '\r') {
		m.state = markerBackslash
	}
	m.previous = '\\'
	return p[i+1:]
}

// pass keeps what CSV data without a backslash says of the place behind it.
func (m *endMarker) pass(p []byte) {
	if len(p) == 0 {
		return
	}
	m.previous = p[len(p)-1]
	if m.quote != "" && bytes.Count(p, []byte(m.quote))%2 == 1 {
		m.quoted = !m.quoted
	}
}

// lines counts the rows in data, as far as that can be seen.
func lines(format script.Format, p []byte) int {
	if format == script.Binary {
		return 0
	}
	return bytes.Count(p, []byte{'\n'})
}
