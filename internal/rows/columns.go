package rows

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// Columns describes a result and writes its rows. It does not change and is
// safe for concurrent use. Its Append methods extend dst like append and do not
// keep their arguments. A row's values are in the text format, one for each
// column, a nil slice for NULL; fewer values panic.
//
// A json value may hold line ends, and so may then a row.
type Columns struct {
	header []byte
	types  []*Type
	fields []field
}

// field is a column that a row written as an object shows.
type field struct {
	column int
	key    []byte // "name":
}

// Columns describes the result with these fields, asking lookup where the
// catalog does not know a type.
func (c *Catalog) Columns(ctx context.Context, lookup Lookup, described []pgconn.FieldDescription) (*Columns, error) {
	oids := make([]uint32, len(described))
	for i, d := range described {
		oids[i] = d.DataTypeOID
	}
	types, err := c.Types(ctx, lookup, oids)
	if err != nil {
		return nil, err
	}
	return &Columns{header: header(described, types), types: types, fields: fields(described)}, nil
}

func header(described []pgconn.FieldDescription, types []*Type) []byte {
	dst := []byte{'['}
	for i, d := range described {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = appendString(dst, []byte(d.Name))
		dst = append(dst, `,"type":`...)
		dst = appendString(dst, []byte(types[i].name))
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// fields leaves out a column when a later one has its name.
func fields(described []pgconn.FieldDescription) []field {
	var fields []field
	seen := make(map[string]bool, len(described))
	for i, d := range slices.Backward(described) {
		if !seen[d.Name] {
			seen[d.Name] = true
			fields = append(fields, field{i, append(appendString(nil, []byte(d.Name)), ':')})
		}
	}
	slices.Reverse(fields)
	return fields
}

// QuoteBigNumbers returns the columns that write int8 and numeric values as
// strings, in arrays too. The header is the same.
func (c *Columns) QuoteBigNumbers() *Columns {
	quoted := *c
	quoted.types = make([]*Type, len(c.types))
	for i, t := range c.types {
		quoted.types[i] = t.quoteBigNumbers()
	}
	return &quoted
}

// AppendHeader appends an array of objects with each column's name and type.
func (c *Columns) AppendHeader(dst []byte) []byte { return append(dst, c.header...) }

// valueAt is NULL where a row is shorter than it was described: a function can have
// put another statement in the place of the one that was prepared.
func valueAt(values [][]byte, i int) []byte {
	if i >= len(values) {
		return nil
	}
	return values[i]
}

// AppendRow appends a row as an array of its values.
func (c *Columns) AppendRow(dst []byte, values [][]byte) []byte {
	dst = append(dst, '[')
	for i, t := range c.types {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = t.appendJSON(dst, valueAt(values, i))
	}
	return append(dst, ']')
}

// AppendObject appends a row as an object. Of columns with one name the last is
// in it.
func (c *Columns) AppendObject(dst []byte, values [][]byte) []byte {
	dst = append(dst, '{')
	for i := range c.fields {
		f := &c.fields[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, f.key...)
		dst = c.types[f.column].appendJSON(dst, valueAt(values, f.column))
	}
	return append(dst, '}')
}
