package cursors

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
)

// Rows that are many times longer in JSON than PostgreSQL sends them are not written in
// order to see that they fit no message.
func TestRowsThatGrowAreNotWritten(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	columns, err := rows.NewCatalog().Columns(t.Context(), nil, []pgconn.FieldDescription{{Name: "a", DataTypeOID: 25}})
	if err != nil {
		t.Fatal(err)
	}
	encode := encoder{columns, false}
	for name, text := range map[string]string{"control characters": "\x01", "quotes": `"`, "letters": "x"} {
		values := [][]byte{[]byte(strings.Repeat(text, 2*limit-4096))}
		p := &page{hard: limit, soft: limit, opening: true}
		if got := p.offer(encode, values); got != left || cap(p.body) > limit {
			t.Errorf("%s: a page offered them has %d bytes, %d", name, cap(p.body), got)
		}
		a := readahead{maxRow: limit, most: maxAhead}
		if a.add(encode, values); a.len() != 1 || cap(a.data) > limit {
			t.Errorf("%s: %d rows ahead have %d bytes", name, a.len(), cap(a.data))
		}
	}
}

// Where a row ends takes memory, too, which the shortest rows have more of than of JSON.
func TestShortRowsAheadTakeTheirMemory(t *testing.T) {
	t.Parallel()
	columns, err := rows.NewCatalog().Columns(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	const most = 1 << 20
	asked := 0
	a := readahead{maxRow: 1000, most: most, room: func(bytes int) error { asked += bytes; return nil }}
	n := 0
	for ; !a.lost; n++ {
		a.add(encoder{columns, false}, nil)
	}
	if least := n * (len("[]") + endBytes); least > most+100 || a.held() < least-100 || asked < n*endBytes-100 {
		t.Errorf("%d rows take %d bytes: %d were asked for, %d are held of %d", n, least, asked, a.held(), most)
	}
}
