package console

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/client"
)

func TestTablesFitTheTerminal(t *testing.T) {
	t.Parallel()
	column := func(names ...string) (all []client.Column) {
		for _, name := range names {
			all = append(all, client.Column{Name: name, Type: "text"})
		}
		return all
	}
	long := json.RawMessage(`"` + strings.Repeat("x", 100) + `"`)
	for name, tt := range map[string]struct {
		result client.Result
		width  int
		want   string
	}{
		"as wide as the rows": {
			client.Result{Columns: column("a", "b"), Rows: []client.Row{{json.RawMessage(`"漢字"`), json.RawMessage("1")}, {json.RawMessage(`"e\u0301"`), json.RawMessage("2")}}}, 80,
			" a    | b\n------+---\n 漢字 | 1\n e\u0301    | 2\n(2 rows)\n",
		},
		"the widest is cut": {
			client.Result{Columns: column("a", "long"), Rows: []client.Row{{json.RawMessage("1"), long}}}, 20,
			" a | long\n---+----------------\n 1 | xxxxxxxxxxxxx…\n(1 row)\n",
		},
		"records": {
			client.Result{Columns: column("a", "long", "other"), Rows: []client.Row{{json.RawMessage("1"), long, long}}}, 20,
			"-[ row 1 ]----------\na     | 1\nlong  | " + strings.Repeat("x", 100) + "\nother | " + strings.Repeat("x", 100) + "\n(1 row)\n",
		},
	} {
		var out bytes.Buffer
		if err := Table(&out, tt.result, tt.width); err != nil || out.String() != tt.want {
			t.Errorf("%s: printed\n%s\nwant\n%s", name, out.String(), tt.want)
		}
	}
}

// TestFit holds for many tables that no line is wider than the terminal, and that no
// column is cut that need not be.
func TestFit(t *testing.T) {
	t.Parallel()
	for _, widths := range [][]int{{5}, {500}, {10, 10, 10}, {3, 200, 40, 39}, {8, 8, 300}, {100, 100, 100, 100}} {
		for total := 1; total < 700; total++ {
			got := append([]int(nil), widths...)
			if !fit(got, total) {
				continue
			}
			sum, cuts := -1, false
			for i, w := range got {
				sum += w + 3
				cuts = cuts || w < widths[i]
			}
			if sum > total || cuts && sum <= total-len(got) {
				t.Fatalf("fit(%v, %d) = %v, %d wide", widths, total, got, sum)
			}
		}
	}
}
