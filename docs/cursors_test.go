package docs_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// varying is what differs from run to run in a reply.
var varying = regexp.MustCompile(`pgbridge\.tx\.[A-Za-z0-9]+\.[A-Z0-9]+|"id":"[A-Z0-9]{26}"`)

// TestCursorExamplesAreReal sends what the page shows and compares each reply
// with those it shows.
func TestCursorExamplesAreReal(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("cursors.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1) {
		var compact bytes.Buffer
		if err := json.Compact(&compact, block[1]); err != nil {
			t.Fatalf("%v in %s", err, block[1])
		}
		shown = append(shown, varying.ReplaceAllString(compact.String(), "…"))
	}
	bus, database := testenv.NATS(t), testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, database, examples.Schema())
	testenv.Exec(t, database, "INSERT INTO orders (customer, total) VALUES ('Ada', 12.50), ('Grace', 99.00), ('Edsger', 7.25)")
	function := regexp.MustCompile(`(?s)CREATE FUNCTION report.*?END \$\$;`).Find(page)
	testenv.Exec(t, database, string(function))
	serveRequests(t, txrunner.Config{
		ConnString: database, Scripts: scriptsFolder(t), SQL: &txrunner.SQL{}, Extensions: []txrunner.Extension{cursors.New()},
		Requests: bus.Connect(t, nats.PermissionErrOnSubscribe(true)),
	})
	b := &bench{t, bus.Connect(t)}
	ask := func(subject, body string) []byte {
		t.Helper()
		reply, err := b.client.Request(subject, []byte(body), patience)
		if err != nil {
			t.Fatal(err)
		}
		if failure := reply.Header.Get("Nats-Service-Error"); failure != "" {
			t.Fatalf("%s: %s", subject, failure)
		}
		return reply.Data
	}
	real := func(what string, body []byte) {
		t.Helper()
		text := varying.ReplaceAllString(string(body), "…")
		for _, s := range shown {
			if s == text {
				return
			}
		}
		t.Errorf("the page does not show the reply to %s: %s", what, text)
	}
	opened := ask("pgbridge.cursor.orders.all", `{"count": 2}`)
	real("opening", opened)
	tx := txOf(t, opened)
	real("fetch", ask(tx+".fetch", `{"cursor": "c1", "count": 2}`))
	script := regexp.MustCompile(`SELECT \* FROM report\(@day\);`).Find(page)
	sql, err := json.Marshal(map[string]any{"sql": string(script), "params": map[string]string{"day": "2026-01-01"}})
	if err != nil {
		t.Fatal(err)
	}
	report := ask("pgbridge.cursor", string(sql))
	real("a report", report)
	ask(txOf(t, report)+".rollback", "")
	tx = txOf(t, ask("pgbridge.cursor", `{"sql": "SELECT generate_series(1, 100)", "scroll": true, "count": 20}`))
	real("move", ask(tx+".move", `{"cursor": "c1", "direction": "backward", "count": 10}`))
	real("stream", ask(tx+".stream", `{"cursor": "c1"}`))

	tx = txOf(t, ask("pgbridge.begin", ""))
	for _, row := range regexp.MustCompile("(?m)^\\| `<tx>\\.([a-z.]+)` \\| (?:`(.*)`)? ?\\|$").FindAllSubmatch(page, -1) {
		ask(tx+"."+string(row[1]), string(row[2]))
	}
	if got := testenv.Value[string](t, database, "SELECT string_agg(total::text, ' ' ORDER BY id) FROM orders"); got != "11.25 99.00 7.25" {
		t.Errorf("totals after WHERE CURRENT OF: %s", got)
	}
}

func txOf(t *testing.T, reply []byte) string {
	t.Helper()
	var r struct {
		Tx string `json:"tx"`
	}
	if err := json.Unmarshal(reply, &r); err != nil || !strings.HasPrefix(r.Tx, "pgbridge.tx.") {
		t.Fatalf("reply %s (%v)", reply, err)
	}
	return r.Tx
}
