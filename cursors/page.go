package cursors

import "github.com/pgbridge/pgbridge/internal/rows"

const (
	pageStart = `{"rows":[`
	doneTrue  = `],"done":true}`
	doneFalse = `],"done":false}`
	pageEnd   = len(doneFalse)
)

// encoder writes rows in JSON.
type encoder struct {
	columns *rows.Columns
	objects bool
}

// append appends one row.
func (e encoder) append(dst []byte, values [][]byte) []byte {
	if e.objects {
		return e.columns.AppendObject(dst, values)
	}
	return e.columns.AppendRow(dst, values)
}

// least is how long a row is at least; see [rows.Columns.Least].
func (e encoder) least(values [][]byte, limit int) int {
	return e.columns.Least(values, e.objects, limit)
}

// fit is what became of a row that was offered to a page.
type fit uint8

const (
	taken fit = iota
	left      // it belongs on the next page
	never     // it does not fit any message
)

// page is the body of a reply in the making.
type page struct {
	body []byte // begins with everything before the first row
	soft int    // how long it should be at most
	hard int    // how long it may be, with one row
	rows int
	// opening says that this is the page that comes with the cursor: a row that
	// does not fit is left for a page that has more room.
	opening bool
	full    bool
	cut     bool // a row was left
	refused bool // the first row fits no message
}

// room is how many bytes of rows are still wanted.
func (p *page) room() int { return max(1, p.soft-len(p.body)-pageEnd) }

// offer appends a row if it fits.
func (p *page) offer(encode encoder, values [][]byte) fit {
	before := len(p.body)
	if p.full || encode.least(values, p.hard) > p.hard {
		return p.decline(before)
	}
	if p.rows > 0 {
		p.body = append(p.body, ',')
	}
	p.body = encode.append(p.body, values)
	return p.accept(before)
}

// offerEncoded does the same with a row that is JSON already; an empty one is
// too large.
func (p *page) offerEncoded(row []byte) fit {
	before := len(p.body)
	if p.full || len(row) == 0 {
		return p.decline(before)
	}
	if p.rows > 0 {
		p.body = append(p.body, ',')
	}
	p.body = append(p.body, row...)
	return p.accept(before)
}

func (p *page) accept(before int) fit {
	size := len(p.body) + pageEnd
	if size > p.hard || size > p.soft && p.rows > 0 {
		return p.decline(before)
	}
	p.rows++
	p.full = size > p.soft
	return taken
}

// decline takes a row back and ends the page before it.
func (p *page) decline(before int) fit {
	p.body = p.body[:before]
	p.cut = p.full || p.rows > 0 || p.opening
	p.full = true
	if p.cut {
		return left
	}
	p.refused = true
	return never
}

// finish completes the body.
func (p *page) finish(done bool) []byte {
	if done {
		p.body = append(p.body, doneTrue...)
	} else {
		p.body = append(p.body, doneFalse...)
	}
	return p.body
}
