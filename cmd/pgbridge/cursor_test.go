package main

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func (s *scripted) cursor(t *testing.T, args ...string) result {
	t.Helper()
	return call(t, nil, append([]string{"cursor", "--nats", s.bus.URL()}, args...)...)
}

// idle waits until no transaction is open.
func (s *scripted) idle(t *testing.T) {
	t.Helper()
	testenv.Wait(t, timeLimit, "every transaction to end", func() bool {
		return testenv.Value[int](t, s.url, `SELECT count(*)::int FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'`) == 0
	})
}

func TestCursorWritesAllRows(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "mixed", `SELECT g AS id, 'a "b",' || chr(10) || 'c' AS text, NULL AS nothing, '{"x":
		1}'::json AS j, ARRAY[g] AS list FROM generate_series(1, @n::int) g;`)
	s.write(t, "large", "SELECT g, repeat('x', CASE WHEN g = 3 THEN 2000000 ELSE 1 END) FROM generate_series(1, 5) g;")
	s.write(t, "breaks", "SELECT 10 / (3000 - g) AS x FROM generate_series(1, 9000) g;")
	s.write(t, "opened", "SELECT opened(@n);")
	testenv.Exec(t, s.url, `CREATE FUNCTION opened(n int) RETURNS SETOF refcursor LANGUAGE plpgsql AS $$
		DECLARE r refcursor;
		BEGIN FOR i IN 1 .. n LOOP r := NULL; OPEN r FOR SELECT i AS row; RETURN NEXT r; END LOOP; END $$`)
	s.serve(t, "--set", "sql=true")

	r := s.cursor(t, "mixed", "n=5000")
	lines := strings.Split(r.stdout, "\n")
	if r.code != exitOK || len(lines) != 5001 || lines[4999] != `{"id":5000,"text":"a \"b\",\nc","nothing":null,"j":{"x":1},"list":[5000]}` {
		t.Errorf("code %d, %d lines, the last %q, %s", r.code, len(lines), lines[max(0, len(lines)-2)], r.stderr)
	}
	r = s.cursor(t, "mixed", "n=2", "--csv")
	want := "id,text,nothing,j,list\n1,\"a \"\"b\"\",\nc\",,\"{\"\"x\"\":\n\t\t1}\",[1]\n"
	if r.code != exitOK || !strings.HasPrefix(r.stdout, want) {
		t.Errorf("code %d, CSV %q, want %q…", r.code, r.stdout, want)
	}
	wantResult(t, s.cursor(t, "--sql", "SELECT @a::int + 1 AS b", "a=41"), exitOK, `{"b":42}`, "")
	wantResult(t, s.cursor(t, "mixed", "n=0"), exitOK, "", "")
	wantResult(t, s.cursor(t, "large"), exitFailed, `{"g":2,"repeat":"x"}`, "too_large: row 3 does not fit one message")
	wantResult(t, s.cursor(t, "breaks"), exitFailed, "", "SQLSTATE: 22012")
	wantResult(t, s.cursor(t, "opened", "n=1"), exitOK, `{"row":1}`, "")
	wantResult(t, s.cursor(t, "opened", "n=2"), exitFailed, "", "opens 2 cursors")
	wantResult(t, s.cursor(t, "nowhere"), exitFailed, "", "pgbridge: not_found")
	wantResult(t, s.cursor(t, "transfer", "source=1", "target=2", "amount=1"), exitFailed, "", "pgbridge: invalid_request")
	s.idle(t)
}

func TestCursorUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"a=1"}, {"s", "--csv", "--json"}, {"s", "--timeout", "-1s"}, {"s", "a"}} {
		if r := call(t, nil, append([]string{"cursor"}, args...)...); r.code != exitUsage || r.stderr == "" {
			t.Errorf("%q: exit code %d, %q; want 2 and a reason", args, r.code, r.stderr)
		}
	}
	bus := testenv.NATS(t)
	wantResult(t, call(t, nil, "cursor", "--nats", bus.URL(), "s"), exitFailed, "", "nobody serves it")
}

// glass is what a pager draws on.
type glass struct {
	mu    sync.Mutex // guards text
	text  strings.Builder
	drawn chan struct{}
}

func (g *glass) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.text.Reset()
	g.text.Write(p)
	g.drawn <- struct{}{}
	return len(p), nil
}

var firstColumn = regexp.MustCompile(`(?m)^ +(\d+)`)

// shown are the numbers in the first column, and whether it says that this is
// the end.
func (g *glass) shown() string {
	select {
	case <-g.drawn:
	case <-time.After(timeLimit):
		return "nothing"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var numbers []string
	for _, m := range firstColumn.FindAllStringSubmatch(g.text.String(), -1) {
		numbers = append(numbers, m[1])
	}
	if strings.Contains(g.text.String(), "(end)") {
		numbers = append(numbers, "end")
	}
	if strings.Contains(g.text.String(), "too large") {
		numbers = append(numbers, "large")
	}
	return strings.Join(numbers, " ")
}

func TestPager(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "rows", "SELECT g AS n, repeat('x', CASE WHEN g = @large::int THEN 2000000 ELSE 1 END) AS pad FROM generate_series(1, @rows::int) g ORDER BY g;")
	s.serve(t)
	for _, c := range []struct {
		name, large, rows, keys string
		want                    []string
	}{
		{"a part at the end", "0", "7", " bb  gG", []string{"1 2 3", "4 5 6", "1 2 3", "1 2 3", "4 5 6", "7 end", "1 2 3", "5 6 7 end"}},
		{"a full page at the end", "0", "6", "  bG", []string{"1 2 3", "4 5 6", "4 5 6 end", "1 2 3", "4 5 6 end"}},
		{"back from the end", "0", "8", "Gbbb", []string{"1 2 3", "6 7 8 end", "3 4 5", "1 2 3", "1 2 3"}},
		{"a large row", "5", "8", "   b", []string{"1 2 3", "4", "large", "6 7 8", "3 4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s.pages(t, c.large, c.rows, c.keys, c.want)
		})
	}
}

func (s *scripted) pages(t *testing.T, large, rows, pressed string, want []string) {
	t.Helper()
	c, err := client.New(s.bus.Connect(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys, press := io.Pipe()
	defer press.Close()
	g := &glass{drawn: make(chan struct{})}
	screen := console.Screen{Keys: keys, Out: g, Size: func() (int, int) { return 40, 6 }} // 3 lines are not for rows
	cursor, err := c.Cursor(t.Context(), client.Script{Name: "rows", Params: client.Params{"large": large, "rows": rows}},
		client.CursorOptions{PageRows: screen.PageRows(), Scroll: true})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- screen.Page(context.Background(), cursor, nil) }()
	if got := g.shown(); got != want[0] {
		t.Errorf("at first %q, want %q", got, want[0])
	}
	for i, key := range pressed {
		if _, err := press.Write([]byte{byte(key)}); err != nil {
			t.Fatal(err)
		}
		if got := g.shown(); got != want[i+1] {
			t.Errorf("after %q it shows %q, want %q", pressed[:i+1], got, want[i+1])
		}
	}
	if _, err := press.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-ended, cursor.Tx().Rollback(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestCursorOfADeadReplica(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "rows", "SELECT a AS g FROM generate_series(1, 10000) a, generate_series(1, 10000);")
	serving, _ := s.serve(t)
	c := start(t, "cursor", "--nats", s.bus.URL(), "rows")
	testenv.Wait(t, timeLimit, "rows to come", func() bool { return strings.Contains(c.stdout.String(), `{"g":1}`) })
	serving.signal(t, syscall.SIGKILL)
	if code := c.code(t); code != exitFailed || !strings.Contains(c.stderr.String(), "is gone") {
		t.Errorf("exit code %d, %s", code, &c.stderr)
	}
}
