package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

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

// TestRunForms prints a reply in each form, and says what a misspelt name means.
func TestRunForms(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "two", "CREATE TEMP TABLE x ON COMMIT DROP AS SELECT 1;\nSELECT 1 AS a, NULL AS b;\nSELECT 'x,y' AS c;")
	s.serve(t, "--set", "sql=true")
	want := func(r result, code int, stdout, stderr string) {
		t.Helper()
		if r.code != code || r.stdout != stdout || !strings.Contains(r.stderr, stderr) {
			t.Errorf("code %d, stdout %q, stderr %q; want %d, %q, %q", r.code, r.stdout, r.stderr, code, stdout, stderr)
		}
	}
	want(s.run(t, "two", "--csv"), exitOK, "a,b\n1,\n\nc\n\"x,y\"\n", "")
	want(s.run(t, "two", "--ndjson"), exitOK, "{\"a\":1,\"b\":null}\n{\"c\":\"x,y\"}\n", "")
	want(s.run(t, "--table", "--timing", "--sql", "SELECT 1 AS a"), exitOK, " a\n---\n 1\n(1 row)\n", "s\n")
	want(s.run(t, "two", "--csv", "--json"), exitUsage, "", "--json and --csv can't be used together")
	want(s.run(t, "twoo", "--csv"), exitFailed, "", `is "two" meant?`)
	want(s.run(t, "account", "i=1", "--csv"), exitFailed, "", `is "id" meant?`)
	want(s.run(t, "two", "--watch", "1s", "--job"), exitUsage, "", "--watch goes without")

	watch := start(t, "run", "--nats", s.bus.URL(), "account", "id=1", "--ndjson", "--watch", "10ms")
	testenv.Wait(t, timeLimit, "some runs", func() bool { return strings.Count(watch.stdout.String(), `"Ada"`) > 2 })
	watch.signal(t, syscall.SIGINT)
	if code := watch.code(t); code != exitOK || watch.stderr.String() != "" {
		t.Errorf("--watch ends with %d, %s", code, &watch.stderr)
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
