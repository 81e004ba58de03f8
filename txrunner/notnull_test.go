package txrunner_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
)

// TestDescribeKnowsWhatIsNotNull compares with the catalog, and with rows: where a
// column is said to hold no NULL, there is none.
func TestDescribeKnowsWhatIsNotNull(t *testing.T) {
	t.Parallel()
	cases := []struct{ sql, want string }{ // the columns that are not NULL; nothing: none
		{"SELECT * FROM parent", "id a"},
		{"SELECT a.id, a.note, a.id + 1 AS sum, a.day AS renamed, a.ctid FROM plain a", "id renamed"},
		{"SELECT p.id, q.id AS other FROM plain p JOIN plain q ON q.id = p.id", "id other"},
		{"SELECT p.id, q.id AS other FROM plain p LEFT JOIN plain q ON q.id > p.id", ""},
		{"SELECT x.id FROM (SELECT p.id FROM plain q LEFT JOIN plain p ON p.id > q.id) x", ""},
		{"SELECT id, day FROM plain GROUP BY ROLLUP (id, day)", ""},
		{"SELECT id FROM plain UNION ALL SELECT NULL", ""},
		{"WITH RECURSIVE r AS (SELECT id FROM plain UNION ALL SELECT NULL FROM r WHERE id = 1) SELECT id FROM r", ""},
		{"WITH c AS (SELECT id FROM plain) SELECT id FROM c", "id"},
		{"SELECT id FROM seen", ""}, // a view
		{"SELECT id FROM inherited", ""},
		{"SELECT id FROM parted", "id"},
		{"SELECT (SELECT id FROM plain WHERE false) AS id", ""},
		{"INSERT INTO plain (id, day) VALUES (3, now()) RETURNING id, note", "id"},
		{"SELECT plain.* FROM plain WHERE note = @note OR true", "id day"},
		{"SELECT 'left join' AS id, id AS \"left\" FROM plain", "left"},
	}
	w := newWorld(t, nil)
	if harness.Value[int](w.World, "SELECT current_setting('server_version_num')::int") >= 180000 {
		cases = append(cases, []struct{ sql, want string }{
			{"INSERT INTO plain (id, day) VALUES (4, now()) RETURNING old.id", ""},
			{"INSERT INTO plain (id, day) VALUES (5, now()) RETURNING \"old\".id", ""},
			{"INSERT INTO plain (id, day) VALUES (6, now()) RETURNING U&\"\\006fld\".id", ""},
			{"INSERT INTO plain (id, day) VALUES (7, now()) RETURNING WITH (OLD AS o) o.id", ""},
		}...)
	}
	scripts := map[string]string{}
	for i, c := range cases {
		scripts["case"+strconv.Itoa(i)] = c.sql
	}
	scripts["fetched"] = "DECLARE x CURSOR FOR SELECT q.id FROM plain p LEFT JOIN plain q ON q.id > p.id; FETCH ALL FROM x"
	for name, text := range scripts {
		w.Write(name, text)
	}
	w.SQL(`CREATE TABLE plain (id int PRIMARY KEY, day timestamptz NOT NULL, note text);
		INSERT INTO plain VALUES (1, now(), NULL), (2, now(), 'x');
		CREATE VIEW seen AS SELECT id FROM plain;
		CREATE TABLE parent (id int NOT NULL, a text NOT NULL, b text);
		CREATE TABLE inherited (id int NOT NULL); CREATE TABLE child () INHERITS (inherited);
		CREATE TABLE parted (id int NOT NULL) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parted DEFAULT`)
	w.Serve()
	for name, sql := range scripts {
		want := ""
		if i, err := strconv.Atoi(strings.TrimPrefix(name, "case")); err == nil {
			want = cases[i].want
		}
		var d struct {
			Columns []struct {
				Name    string
				NotNull bool `json:"not_null"`
			}
		}
		answer, err := w.Client.Request("pgbridge.describe."+name, nil, harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(answer.Data, &d); err != nil {
			t.Fatal(err)
		}
		params := `{"rows": "object"}`
		if strings.Contains(sql, "@") {
			params = `{"rows": "object", "params": {"note": null}}`
		}
		var rows []map[string]json.RawMessage
		if err := json.Unmarshal([]byte(w.Ask("run."+name, params).Good(t).LastRows()), &rows); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range d.Columns {
			if !c.NotNull {
				continue
			}
			got = append(got, c.Name)
			for _, row := range rows {
				if string(row[c.Name]) == "null" {
					t.Errorf("%s: %s is NULL", sql, c.Name)
				}
			}
		}
		harness.Equal(t, sql, strings.Join(got, " "), want)
	}
}
