package txrunner_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// A script is faulty only if it does not run, and what it takes and returns is said.
func TestCheckSaysWhatScriptsDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"account":  "SELECT id, owner FROM account WHERE id = @id",
		"twice":    "SELECT @a::int; INSERT INTO account (owner) VALUES (@a)",
		"tenant":   "SELECT set_config('search_path', @tenant, true); INSERT INTO doc (data) VALUES (@data)",
		"function": "SELECT Enter(@tenant); INSERT INTO doc (data) VALUES (@data)",
		"quoted":   `SELECT "Enter too"(@tenant); INSERT INTO doc (data) VALUES (@data)`,
		"local":    "SET LOCAL search_path = a; INSERT INTO doc (data) VALUES (@data)",
		"role":     "-- role: insider\nINSERT INTO inside (a) VALUES (@a)",
		"typo":     "SELECT set_config('app.tenant', @tenant, true); INSERT INTO dco (data) VALUES (@data)",
		"stable":   "SELECT known(@a); SELECT 1 FROM dco",
		"syntax":   "SELECT set_config('search_path', @tenant, true); SELECT FROM WHERE",
	})
	w.SQL(`CREATE SCHEMA a; CREATE TABLE a.doc (data jsonb); CREATE TABLE account (id bigserial, owner text);
		CREATE FUNCTION enter(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('search_path', t, true) $$;
		CREATE FUNCTION "Enter too"(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('search_path', t, true) $$;
		CREATE FUNCTION known(t text) RETURNS text LANGUAGE sql STABLE AS 'SELECT t';
		DO $$ BEGIN CREATE ROLE insider; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		CREATE SCHEMA insider AUTHORIZATION insider; CREATE TABLE insider.inside (a date); GRANT ALL ON insider.inside TO insider`)
	seen := 0
	checked, faults := txrunner.CheckScripts(t.Context(), w.Config(), func(done, total int) {
		if seen++; done != seen || done > total {
			t.Errorf("progress is %d of %d after %d", done, total, seen)
		}
	})
	if seen != len(checked) {
		t.Errorf("%d scripts were told of, want %d", seen, len(checked))
	}
	got := map[string]string{}
	for _, c := range checked {
		fault := ""
		if c.Fault != nil {
			fault = c.Fault.Error()[strings.LastIndex(c.Fault.Error(), "(SQLSTATE"):]
		}
		got[c.Name] = fmt.Sprint(c.Kind, " ", c.Cursor, " ", c.Parameters, " ", c.Columns, " ", c.Later, " ", fault)
	}
	for name, want := range map[string]string{
		"account":  "run true [id int8] [id int8 owner text] 0 ",
		"twice":    "run false [a int4 or text] [] 0 ",
		"tenant":   "run false [tenant text data] [] 2 ",
		"function": "run false [tenant text data] [] 2 ",
		"quoted":   "run false [tenant text data] [] 2 ",
		"local":    "run false [data] [] 2 ",
		"role":     "run false [a date] [] 0 ",
		"typo":     "run false [tenant text data] [] 0 (SQLSTATE 42P01)",
		"stable":   "run true [a text] [] 0 (SQLSTATE 42P01)",
		"syntax":   "run true [tenant text] [] 0 (SQLSTATE 42601)",
	} {
		harness.Equal(t, name, got[name], want)
	}
	harness.Equal(t, "faults", len(faults), 3)
	w.Serve()
	for name, params := range map[string]string{
		"tenant": `{"tenant": "a", "data": 1}`, "function": `{"tenant": "a", "data": 1}`, "quoted": `{"tenant": "a", "data": 1}`, "local": `{"data": 1}`,
		"role": `{"a": "2020-01-01"}`,
	} {
		w.Ask("run."+name, `{"params": `+params+`}`).Good(t)
	}
}

// Scripts that come with a reload are looked at as those at the start are.
func TestReloadLogsFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"first": "SELECT 1 FROM nothing"})
	r := w.Serve()
	faults := func() (names []string) {
		for _, e := range r.Logs.FilterMessage("a script is faulty").All() {
			text := fmt.Sprint(e.ContextMap()["error"])
			names = append(names, text[strings.LastIndex(text, "/")+1:strings.Index(text, ".sql")])
		}
		return names
	}
	testenv.Wait(t, harness.Patience, "the fault at the start", func() bool { return len(faults()) == 1 })
	w.Write("second", "SELECT 1 FROM nowhere")
	w.Write("good", "SELECT 1")
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "the fault of the new script", func() bool { return len(faults()) == 2 })
	w.Write("third", "SELECT 1 FROM nowhere")
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "the last fault", func() bool { return len(faults()) >= 3 })
	harness.Equal(t, "the scripts", strings.Join(faults(), " "), "first second third")
}

// A script can be a link to a secret that could be SQL as far as it is parsed here. Then
// it is PostgreSQL that quotes it.
func TestSecretIsNoScript(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	w := newWorld(t, map[string]string{"bare": secret, "pair": secret + "=x", "second": "SELECT 1;\n" + secret + " x", "commented": "-- A note.\n" + secret})
	_, faults := txrunner.CheckScripts(t.Context(), w.Config(), nil)
	harness.Equal(t, "faults", len(faults), 4)
	if text := fmt.Sprint(faults); strings.Contains(text, secret) {
		t.Errorf("the faults are %s", text)
	}
	r := w.Serve()
	testenv.Wait(t, harness.Patience, "the faults", func() bool { return r.Logs.FilterMessage("a script is faulty").Len() == 4 })
	if line := leaks(r, secret); line != "" {
		t.Errorf("logged %q", line)
	}
}
