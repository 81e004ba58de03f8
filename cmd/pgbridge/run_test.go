package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// scripted is a database with the example's tables, a copy of its scripts, and
// a NATS server.
type scripted struct {
	url    string
	bus    *testenv.NATSServer
	folder string
}

func newScripted(t *testing.T, hooks ...func(*server.Options)) *scripted {
	t.Helper()
	s := &scripted{testenv.Postgres(t).NewDatabase(t), testenv.NATS(t, hooks...), t.TempDir()}
	testenv.Exec(t, s.url, examples.Schema())
	if err := os.CopyFS(s.folder, examples.Scripts()); err != nil {
		t.Fatal(err)
	}
	return s
}

// write puts one more script into the folder.
func (s *scripted) write(t *testing.T, name, text string) {
	t.Helper()
	rewrite(t, filepath.Join(s.folder, name+".sql"), text)
}

func (s *scripted) args(more ...string) []string {
	return append([]string{"--postgres", s.url, "--nats", s.bus.URL(), "--set", "scripts=" + s.folder}, more...)
}

// serve starts pgbridge and waits until it is ready.
func (s *scripted) serve(t *testing.T, more ...string) (*child, string) {
	t.Helper()
	c := start(t, append([]string{"serve", "--set", "http=127.0.0.1:0"}, s.args(more...)...)...)
	address := httpAddress(t, c)
	waitReady(t, address)
	return c, address
}

func (s *scripted) run(t *testing.T, args ...string) result {
	t.Helper()
	return call(t, nil, append([]string{"run", "--nats", s.bus.URL()}, args...)...)
}

func (s *scripted) balances(t *testing.T) string {
	t.Helper()
	return testenv.Value[string](t, s.url, "SELECT string_agg(balance::text, ' ' ORDER BY id) FROM account")
}

func wantResult(t *testing.T, r result, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, stdout) || !strings.Contains(r.stderr, stderr) {
		t.Errorf("code %d, stdout %q, stderr %q; want %d, %q, %q", r.code, r.stdout, r.stderr, code, stdout, stderr)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "values", "-- read_only: true\nSELECT @j::jsonb AS j, @l::int[] AS l, @t::text AS t, current_setting('pgbridge.caller') AS c;")
	s.serve(t, "--set", "sql=true")

	wantResult(t, s.run(t, "transfer", "source=1", "target=2", "amount=10.50"), exitOK, `"command":"UPDATE 1"`, "")
	wantResult(t, s.run(t, "account", "id=1"), exitOK, `"rows":[[1,"Ada",989.50]]`, "")
	wantResult(t, s.run(t, "orders.search", "customer:=null"), exitOK, `"rows":[]`, "")
	wantResult(t, s.run(t, "values", `j={"a": [1]}`, "l=[1, 2]", "t=[1]", "--as", "al.ice"), exitOK, `"rows":[[{"a": [1]},[1,2],"[1]","al.ice"]]`, "")
	wantResult(t, s.run(t, "values", "j=word", "l={3}", "t=5", "--timeout", "5s"), exitOK, `"rows":[["word",[3],"5",""]]`, "")
	wantResult(t, s.run(t, "--sql", "SELECT @a::int + 1 AS b", "a=41"), exitOK, `"rows":[[42]]`, "")

	r := s.run(t, "transfer", "source=3", "target=2", "amount=1")
	wantResult(t, r, exitFailed, `{"error":{"code":"sql_error"`, "pgbridge: sql_error: new row for relation \"account\" violates check constraint")
	wantResult(t, r, exitFailed, "", "  statement 2, line 6\n  SQLSTATE: 23514\n  detail: Failing row contains")
	wantResult(t, s.run(t, "--sql", "SELECT 1;\nSELECT\n  nothing_there"), exitFailed, "", "  statement 2, line 3, character 10\n      nothing_there\n      ^\n  SQLSTATE: 42703")
	wantResult(t, s.run(t, "nowhere"), exitFailed, "", `pgbridge: not_found: no script "nowhere"`)
	wantResult(t, s.run(t, "account"), exitFailed, "", "pgbridge: invalid_request: ")
	if got := s.balances(t); got != "989.50 260.50 0.00" {
		t.Errorf("balances %s", got)
	}
}

func TestRunWithAMessageID(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t)
	transfer := []string{"transfer", "source=1", "target=2", "amount=10", "--id", "once"}
	wantResult(t, s.run(t, transfer...), exitFailed, "", "run pgbridge migrate")
	wantResult(t, call(t, nil, "migrate", "--postgres", s.url), exitOK, "", "has the schema pgbridge")
	wantResult(t, s.run(t, transfer...), exitOK, "UPDATE 1", "")
	wantResult(t, s.run(t, transfer...), exitOK, "UPDATE 1", "done before")
	if got := s.balances(t); got != "990.00 260.00 0.00" {
		t.Errorf("balances %s", got)
	}
}

func TestRunAJob(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	wantResult(t, s.run(t, "--job", "transfer", "source:=1", "target:=2", "amount:=1"), exitFailed, "", "are jobs turned on?")
	wantResult(t, call(t, nil, append([]string{"migrate", "--set", "jobs=true"}, s.args()...)...), exitOK, "", "has the stream PGBRIDGE_RESULTS")
	// It waits for somebody to take it.
	early := s.run(t, "--job", "--no-wait", "--id", "early", "transfer", "source:=1", "target:=2", "amount:=1")
	wantResult(t, early, exitOK, "", "job early is number 1 of stream PGBRIDGE_JOBS")
	s.serve(t, "--set", "jobs=true")
	wantResult(t, s.run(t, "--job", "--id", "early", "transfer", "source:=1", "target:=2", "amount:=1"), exitOK, "UPDATE 1", "")
	wantResult(t, s.run(t, "--job", "transfer", "source=1", "target=2", "amount=2"), exitOK, "UPDATE 1", "")
	wantResult(t, s.run(t, "--job", "transfer", "source=3", "target=2", "amount=2"), exitFailed, "", "sql_error")
	if got := s.balances(t); got != "997.00 253.00 0.00" {
		t.Errorf("balances %s", got)
	}
}

func TestRunIsInterrupted(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	asked := subscribed(t, bus.Connect(t), "pgbridge.run.slow")
	c := start(t, "run", "--nats", bus.URL(), "slow")
	if _, err := asked.NextMsg(timeLimit); err != nil {
		t.Fatal(err)
	}
	c.signal(t, syscall.SIGINT)
	if code := c.code(t); code != exitFailed || !strings.Contains(c.stderr.String(), "whether it was done is not known") {
		t.Errorf("exit code %d, %s", code, &c.stderr)
	}
}

func TestRunWithoutAnswer(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"pgbridge.run.secret", "pgbridge.describe.>"}},
		}}}
	})
	url := strings.Replace(bus.URL(), "nats://", "nats://u:p@", 1)
	wantResult(t, call(t, nil, "run", "--nats", url, "transfer"), exitFailed, "", "nobody serves it")
	// Asking for the types is forbidden too, and no reason to stop.
	wantResult(t, call(t, nil, "run", "--nats", url, "transfer", "a=1"), exitFailed, "", "request pgbridge.run.transfer: nobody serves it")
	wantResult(t, call(t, nil, "run", "--nats", url, "secret"), exitFailed, "", "request pgbridge.run.secret: NATS forbids it")
}

func TestRunUsage(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "binary")
	rewrite(t, binary, "\xff")
	for _, args := range [][]string{
		{}, {"a=1"}, {"s", "a"}, {"s", "=1"}, {"s", "a:={"}, {"s", "a=1", "a=2"}, {"s", "a=@"}, {"s", "a=@/nowhere"}, {"s", "a=@" + binary},
		{"s", "--job", "--as", "x"}, {"--job", "--sql", "SELECT 1"}, {"s", "--no-wait"}, {"s", "--timeout", "-1s"},
	} {
		if r := call(t, nil, append([]string{"run"}, args...)...); r.code != exitUsage || r.stderr == "" {
			t.Errorf("%q: exit code %d, %q; want 2 and a reason", args, r.code, r.stderr)
		}
	}
}

func TestParams(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "value")
	rewrite(t, file, "[1]")
	params, err := readParams([]string{"a=x=y", "b:=[null]", "c=@" + file, "d:=@-", "e="}, strings.NewReader(`{"in": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []param{{"a", "x=y", false}, {"b", "[null]", true}, {"c", "[1]", false}, {"d", `{"in": 1}`, true}, {"e", "", false}}
	if !slices.Equal(params, want) {
		t.Errorf("parameters %v, want %v", params, want)
	}
	for _, tt := range []struct {
		value string
		types []string
		want  string
	}{
		{"1", []string{"int4"}, `"1"`}, {"1", []string{"jsonb"}, `1`}, {"x", []string{"json"}, `"x"`}, {`"x"`, []string{"json"}, `"x"`},
		{"[1]", []string{"int4[]"}, `[1]`}, {"{1}", []string{"int4[]"}, `"{1}"`}, {"1", []string{"int4[]"}, `"1"`},
		{"[1]", []string{"jsonb", "text"}, `"[1]"`}, {"[1]", nil, `"[1]"`}, {"[1]", []string{"jsonb", "int4[]"}, `[1]`},
	} {
		got, err := param{value: tt.value}.encode(tt.types)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s as %v: %s (%v), want %s", tt.value, tt.types, got, err, tt.want)
		}
	}
}

// TestTables prints a reply as a terminal shows it.
func TestTables(t *testing.T) {
	t.Parallel()
	reply := `{"results": [
		{"command": "UPDATE 1", "rows_affected": 1},
		{"columns": [{"name": "id", "type": "int8"}, {"name": "name", "type": "text"}, {"name": "tags", "type": "text[]"}],
		 "rows": [[7, "Größe", ["a"]], [12345678901234567890, "\u001b[2J\n", null]], "command": "SELECT 2", "rows_affected": 2},
		{"columns": [], "rows": [[]], "command": "SELECT 1", "rows_affected": 1},
		{"command": "DELETE 0", "rows_affected": 0}],
		"notices": [{"severity": "NOTICE", "message": "one\ntwo", "hint": "h"}], "attempts": 1}`
	var out, notes bytes.Buffer
	p := &replyPrinter{out: &out, notes: &notes}
	if err := p.print(&nats.Msg{Data: []byte(reply)}); err != nil {
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
	p := &replyPrinter{out: &bytes.Buffer{}, notes: &notes}
	body, err := json.Marshal(map[string]any{"error": map[string]any{"code": "sql_error", "message": "a\x1b[2Jb\nc", "where": "x\x07"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.print(&nats.Msg{Data: body}); err == nil {
		t.Error("no error")
	}
	if strings.ContainsAny(notes.String(), "\x1b\x07") {
		t.Errorf("printed %q", notes.String())
	}
}
