package console

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/client"
)

// TestTables prints a reply as a terminal shows it.
func TestTables(t *testing.T) {
	t.Parallel()
	raw := func(values ...string) client.Row {
		row := client.Row{}
		for _, v := range values {
			row = append(row, json.RawMessage(v))
		}
		return row
	}
	reply := &client.Reply{
		Results: []client.Result{
			{Command: "UPDATE 1", RowsAffected: 1},
			{
				Command: "SELECT 2", Columns: []client.Column{{Name: "id", Type: "int8"}, {Name: "name", Type: "text"}, {Name: "tags", Type: "text[]"}},
				Rows: []client.Row{raw("7", `"Größe"`, `["a"]`), raw("12345678901234567890", `"\u001b[2J\n"`, "null")},
			},
			{Command: "SELECT 1", Columns: []client.Column{}, Rows: []client.Row{{}}},
			{Command: "DELETE 0"},
		},
		Notices: []client.Notice{{Severity: "NOTICE", Message: "one\ntwo", Hint: "h"}},
	}
	var out, notes bytes.Buffer
	p := &Replies{Out: &out, Notes: &notes}
	if err := p.Print(reply); err != nil {
		t.Fatal(err)
	}
	want := `UPDATE 1

                   id | name      | tags
----------------------+-----------+-------
                    7 | Größe     | ["a"]
 12345678901234567890 | \x1b[2J\n | NULL
(2 rows)

(1 row)

DELETE 0
`
	if got := out.String(); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	if got, want := notes.String(), "NOTICE: one\n        two\n  hint: h\n"; got != want {
		t.Errorf("notes\n%s\nwant\n%s", got, want)
	}
}

func TestARepliedErrorCannotDriveTheTerminal(t *testing.T) {
	t.Parallel()
	var notes bytes.Buffer
	p := &Replies{Out: &bytes.Buffer{}, Notes: &notes}
	p.PrintError(&client.Error{Code: client.CodeSQLError, Message: "a\x1b[2Jb\nc", Where: "x\x07"})
	if strings.ContainsAny(notes.String(), "\x1b\x07") {
		t.Errorf("printed %q", notes.String())
	}
}

// Whoever answers in pgbridge's stead may send any number of values.
func TestRowsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, row := range []client.Row{{}, {[]byte("1")}, {[]byte("1"), []byte("2"), []byte("3")}} {
		p := &Replies{Out: &bytes.Buffer{}, Notes: &bytes.Buffer{}, Form: CSV}
		result := client.Result{Columns: []client.Column{{Name: "a"}, {Name: "b"}}, Rows: []client.Row{{[]byte("1"), []byte("2")}, row}}
		if err := p.Print(&client.Reply{Results: []client.Result{result}}); err == nil {
			t.Errorf("a row of %d values is written as one of 2", len(row))
		}
	}
}
