package rows

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestLeast(t *testing.T) {
	t.Parallel()
	const limit = 1000
	for _, c := range []struct {
		oid  uint32
		text string
	}{
		{25, "x"}, {25, "\x01"}, {25, "\n"}, {25, `"`}, {25, `\`}, {25, "é"}, {25, "\xff"},
		{114, `{"a": 1}`}, {16, "t"}, {1700, "12"},
		{1009, `{"x y","\"","\\","`}, {1009, "{\"\x01\n\",x}"}, {1009, `{"a\"b",NULL,""}`}, {1009, `[5:6]={1,2}`},
		{1000, "{t,f}"}, {1016, "{1,2,3}"}, {199, `{"{\"a\": \"\\\"b\"}","1"}`},
	} {
		columns, err := NewCatalog().Columns(t.Context(), nil, []pgconn.FieldDescription{{Name: "a", DataTypeOID: c.oid}, {Name: "a", DataTypeOID: 25}})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 400, 3000} { // a short text says nothing
			text := strings.Repeat(c.text, n)
			if c.text[0] == '{' && c.oid != 114 { // one array of many elements
				text = "{" + strings.Repeat(strings.Trim(c.text, "{}")+",", n) + "1}"
			}
			values := [][]byte{[]byte(text), nil}
			least, is := columns.Least(values, false, limit), len(columns.AppendRow(nil, values))
			if least > is && len(text) > limit/escapedBytes {
				t.Errorf("%d times %q of type %d: at least %d bytes, and it has %d", n, c.text, c.oid, least, is)
			}
			if is > limit && is > 4*least+100 {
				t.Errorf("%d times %q of type %d: at least %d bytes, and it has as many as %d", n, c.text, c.oid, least, is)
			}
			if n := columns.Least(values, true, limit); n != 0 { // the last of one name is shown
				t.Errorf("an object that shows none of %q has at least %d bytes", c.text, n)
			}
		}
	}
}
