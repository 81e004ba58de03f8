package execution

import (
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/session"
)

// keepRows keeps the rows of a result for resolve.
func (r *reply) keepRows(s *session.Session, from *session.Result) {
	p := pending{at: len(r.body), fields: slices.Clone(from.FieldDescriptions())}
	for from.NextRow() {
		if r.tooLarge || r.size() > r.limit || larger(from.Values(), 2*r.limit) {
			r.drain(s, from.Values())
			continue
		}
		row := make([][]byte, len(p.fields))
		for i := range row {
			v := from.Values()[i]
			row[i] = slices.Clone(v)
			r.held += len(v) + len("1,")
		}
		r.apart += rowOverhead + len(row)*valueOverhead
		p.rows = append(p.rows, row)
		r.charge()
	}
	r.pending = append(r.pending, p)
}

// What a kept row, and each value of it, take besides, about.
const (
	rowOverhead   = 64
	valueOverhead = 24
)

// resolve completes the results with types that had to be looked up, which
// describe does. The connection is free.
func (r *reply) resolve(describe func([]pgconn.FieldDescription) (*rows.Columns, error)) error {
	for len(r.pending) > 0 { // from the end, so that the places stay what they are
		last := r.pending[len(r.pending)-1]
		r.pending = r.pending[:len(r.pending)-1]
		columns, err := describe(last.fields)
		if err != nil {
			return err
		}
		columns = r.format.Columns(columns)
		text, appendRow := r.appender(nil, columns)
		for i, row := range last.rows {
			if r.tooLarge = r.tooLarge || columns.Least(row, r.format.Objects, r.limit) > r.limit; r.tooLarge {
				return errTooLarge
			}
			if i > 0 {
				text = append(text, ',')
			}
			text = appendRow(text, row)
			if r.tooLarge = r.tooLarge || len(r.body)+len(text) > r.limit; r.tooLarge {
				return errTooLarge
			}
		}
		r.body = slices.Insert(r.body, last.at, append(text, "],"...)...)
	}
	r.held, r.apart = 0, 0
	r.charge()
	return r.refused
}

// addUnknown is add for a result with types that are not known, which resolve
// completes.
func (r *reply) addUnknown(s *session.Session, from *session.Result) error {
	return r.result(from, func() { r.keepRows(s, from) })
}
