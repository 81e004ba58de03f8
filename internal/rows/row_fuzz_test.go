package rows

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// FuzzRow wants each row to be valid JSON with a value for each column, whatever
// the columns' names are and the values hold.
func FuzzRow(f *testing.F) {
	for _, s := range [][3]string{
		{"id", "1", "a"}, {"", "", ""}, {"\"", "NaN", "\x00\xff"}, {"value", "{1,NULL}", "\\"}, {"é\n", "1e400", "{\"a\":1}"},
	} {
		f.Add(s[0], []byte(s[1]), []byte(s[2]))
	}
	types := builtinTypes()
	f.Fuzz(func(t *testing.T, name string, first, second []byte) {
		described := []pgconn.FieldDescription{{Name: name}, {Name: "value"}, {Name: "value"}}
		of := []*Type{types[20], types[25], types[1007]}
		c := &Columns{header: header(described, of), types: of, fields: fields(described)}
		values := [][]byte{first, second, nil}
		for _, c := range []*Columns{c, c.QuoteBigNumbers()} {
			var columns []map[string]string
			decode(t, c.AppendHeader(nil), &columns)
			var row []json.RawMessage
			decode(t, c.AppendRow(nil, values), &row)
			var object map[string]json.RawMessage
			decode(t, c.AppendObject(nil, values), &object)
			distinct := 2
			if _, same := object[name]; name == "value" || !same {
				distinct = len(object) // one name, or one that is not UTF-8
			}
			if len(columns) != 3 || len(row) != 3 || len(object) != distinct || string(row[2]) != "null" || string(object["value"]) != "null" {
				t.Fatalf("columns %v, row %s, object %s", columns, row, object)
			}
		}
	})
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}
