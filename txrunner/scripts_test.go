package txrunner_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func withoutJetStream(o *server.Options) { o.JetStream = false }

func TestScriptsAreReloaded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"a": "SELECT 1", "b": "SELECT 1"})
	r := w.Serve(func(c *txrunner.Config) { c.ScriptsPoll = 10 * time.Millisecond })
	harness.Equal(t, "a", w.rows("run.a", ``), "[[1]]")
	w.Write("a", "SELECT 2")
	w.Write("deep/er/c", "SELECT 3")
	testenv.Wait(t, harness.Patience, "the new scripts", func() bool {
		return code(w.Ask("run.deep.er.c", ``)) == "ok" && w.rows("run.a", ``) == "[[2]]"
	})
	w.Write("a", "SELECT '")
	testenv.Wait(t, harness.Patience, "the fault", func() bool { return len(r.ScriptFaults()) == 1 })
	if fault := r.ScriptFaults()[0].Error(); !strings.Contains(fault, "a.sql:1:8") {
		t.Errorf("fault %q, want its place", fault)
	}
	harness.Equal(t, "a in its last good form", w.rows("run.a", ``), "[[2]]")
	harness.Equal(t, "problems", fmt.Sprint(r.Problems()), "[]")
	w.Write("d", "COMMIT")
	if err := r.Reload(); err == nil || !strings.Contains(err.Error(), "d.sql") {
		t.Errorf("Reload() = %v, want the fault of d.sql", err)
	}
	if problems := fmt.Sprint(r.Problems()); !strings.Contains(problems, "d.sql") || strings.Contains(problems, "a.sql") {
		t.Errorf("Problems() = %s, want d.sql and not a.sql", problems)
	}
	for _, name := range []string{"a", "b", "d"} {
		if err := os.Remove(filepath.Join(w.Folder, name+".sql")); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Wait(t, harness.Patience, "the scripts to go", func() bool { return code(w.Ask("run.b", ``)) == "not_found" && len(r.ScriptFaults()) == 0 })
	w.fails("not_found", "run.a", ``)
	harness.Equal(t, "deep.er.c", w.rows("run.deep.er.c", ``), "[[3]]")
}

func TestScriptRemovedWhileRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"sleep": "SELECT pg_sleep(3)"})
	r := w.Serve()
	running := w.async("run.sleep", ``)
	w.active(1, "pg_sleep")
	if err := os.Remove(filepath.Join(w.Folder, "sleep.sql")); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	w.fails("not_found", "run.sleep", ``)
	harness.Equal(t, "the run", code(<-running), "ok")
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"all": `-- Shows everything.
-- isolation: serializable
-- read_only: true
-- timeout: 2s
-- retries: 1
-- concurrency: 3
SELECT @a::int, @b::text[]; SELECT @a::date AS day, @c::mood AS m`,
		"temp": "CREATE TEMP TABLE scratch (id int) ON COMMIT DROP; INSERT INTO scratch VALUES (@id)",
		"out":  "COPY (SELECT @a) TO STDOUT",
		"bad":  "SELECT 1 FROM nothing",
	})
	w.SQL("CREATE TYPE mood AS ENUM ('good')")
	w.Serve()
	harness.Equal(t, "all", w.Ask("describe.all", ``).Body, `{"name":"all","kind":"run","cursor":true,"description":"Shows everything.",`+
		`"settings":{"isolation":"serializable","read_only":true,"timeout_ms":2000,"retries":1,"concurrency":3},`+
		`"parameters":[{"name":"a","types":["int4","date"]},{"name":"b","types":["text[]"]},{"name":"c","types":["mood"]}],`+
		`"columns":[{"name":"day","type":"date"},{"name":"m","type":"mood"}]}`)
	harness.Equal(t, "temp before a run", w.Ask("as.alice.describe.temp", ``).Body, `{"name":"temp","kind":"run","settings":{},"parameters":[{"name":"id","types":[]}]}`)
	w.Ask("run.temp", `{"params": {"id": 1}}`)
	harness.Equal(t, "temp after a run", w.Ask("describe.temp", ``).Body, `{"name":"temp","kind":"run","settings":{},"parameters":[{"name":"id","types":["int4"]}]}`)
	harness.Equal(t, "a copy", w.Ask("describe.out", ``).Body, `{"name":"out","kind":"copy out","settings":{},"parameters":[{"name":"a","types":[]}]}`)
	e := w.fails("sql_error", "describe.bad", ``)
	harness.Equal(t, "where", words(e.SQLState, e.Line, e.Position), "42P01 1 15")
	w.fails("not_found", "describe.nothing", ``)
	harness.Equal(t, "the list", w.Ask("describe", ``).Body, `{"scripts":[{"name":"all","kind":"run","cursor":true,"description":"Shows everything."},`+
		`{"name":"bad","kind":"run","cursor":true},{"name":"out","kind":"copy out"},{"name":"temp","kind":"run"}]}`)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"good":    "SELECT 1",
		"temp":    "CREATE TEMP TABLE scratch (id int); SELECT * FROM scratch",
		"syntax":  "SELECT 1;\nSELECT 'a",
		"missing": "-- Looks.\nSELECT 1;\nSELECT 1 FROM nothing",
		"vague":   "SELECT @a IS NULL OR 1 = @a::int OR @b IS NULL OR 'x' = @b::text OR @b::int = 1",
		"copy":    "SELECT 1; COPY nothing FROM STDIN",
	})
	runner, err := txrunner.New(w.Config())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, fault := range runner.Check(t.Context()) {
		got = append(got, strings.TrimPrefix(fault.Error(), w.Folder+"/"))
	}
	if len(got) != 3 || !strings.HasPrefix(got[0], "syntax.sql:2:8: ") ||
		!strings.HasPrefix(got[1], "missing.sql:3:15: ") || !strings.Contains(got[1], "42P01") || !strings.HasPrefix(got[2], "vague.sql:1:") {
		t.Errorf("Check() = %q", got)
	}
}

func TestTenThousandScripts(t *testing.T) {
	t.Parallel()
	n := testenv.Fewer(10_000)
	w := newWorld(t, nil)
	for i := range n {
		w.Write(fmt.Sprintf("f%d/script_%d", i%100, i), fmt.Sprintf("-- Number %d of many, with a few words on what it is for, as people write them.\nSELECT %d + @a::int", i, i))
	}
	begun := time.Now()
	w.Serve()
	t.Logf("ready after %s", time.Since(begun))
	seen, after := 0, ""
	for {
		var list struct {
			Scripts []struct{ Name string } `json:"scripts"`
			Next    string                  `json:"next"`
		}
		a := w.Ask("describe", fmt.Sprintf(`{"after": %q}`, after))
		if err := json.Unmarshal([]byte(a.Body), &list); err != nil {
			t.Fatal(err)
		}
		seen += len(list.Scripts)
		if list.Next == "" {
			break
		}
		after = list.Next
	}
	harness.Equal(t, "scripts listed", seen, n)
	for i := 0; i < n; i += 7 {
		name := fmt.Sprintf("f%d.script_%d", i%100, i)
		harness.Equal(t, name, w.rows("run."+name, `{"params": {"a": 1}}`), fmt.Sprintf("[[%d]]", i+1))
	}
	t.Logf("all after %s", time.Since(begun))
}
