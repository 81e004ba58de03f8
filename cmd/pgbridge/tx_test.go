package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/shell"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// transacting runs tx with lines on stdin.
func (s *scripted) transacting(t *testing.T, lines string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(append([]string{"tx", "--server", s.bus.URL()}, args...), nil, strings.NewReader(lines), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// openTransactions is how many PostgreSQL has.
func (s *scripted) openTransactions(t *testing.T) int {
	t.Helper()
	return int(testenv.Value[int64](t, s.url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"))
}

// A file of requests is done as a whole or not at all.
func TestTxRunsAFile(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "credit", "UPDATE account SET balance = balance + @amount WHERE id = @id;")
	s.serve(t, "--set", "sql=true")
	for name, tt := range map[string]struct {
		lines, balances, stdout, stderr string
		code                            int
		args                            []string
	}{
		"committed": {
			lines:    "-- moves money\ntransfer source=1 target=2 amount=10\n\nsavepoint s\ntransfer source=1 target=2 amount=100\nrollback to s\nrelease s\nCOMMIT;\n",
			balances: "990.00 260.00 0.00", stdout: "UPDATE 1",
		},
		"commit at the end": {lines: `transfer source=1 'target=2' "amount=1"`, args: []string{"--commit"}, balances: "999.00 251.00 0.00", stdout: "UPDATE 1"},
		"no commit":         {lines: "transfer source=1 target=2 amount=10", balances: "1000.00 250.00 0.00", code: exitFailed, stdout: "UPDATE 1", stderr: "the input ended without commit"},
		"an error":          {lines: "transfer source=1 target=2 amount=10\ntransfer source=3 target=2 amount=10\ncommit", args: []string{"--commit"}, balances: "1000.00 250.00 0.00", code: exitFailed, stdout: "UPDATE 1", stderr: "sql_error"},
		"a bad line":        {lines: "transfer source=1 target=2 amount=10\nsavepoint\ncommit", balances: "1000.00 250.00 0.00", code: exitFailed, stdout: "UPDATE 1", stderr: "savepoint: name it"},
		"quit":              {lines: "transfer source=1 target=2 amount=10\n\\q\ncommit", balances: "1000.00 250.00 0.00", stdout: "UPDATE 1"},
		"cursors": {
			lines:    "begin\nsql SELECT 'a b' AS x\ncursor orders.all\nfetch 1\nmove -1\nfetch -1\nclose\nrollback",
			balances: "1000.00 250.00 0.00", args: []string{"--ndjson"}, stdout: `{"x":"a b"}`,
		},
		"read back": {
			lines:    "transfer source=1 target=2 amount=10\naccount id=1\ncommit",
			balances: "1000.00 250.00 0.00", code: exitFailed, stdout: "UPDATE 1", stderr: "account is for read-only transactions, and this one may write: commit or rollback first",
		},
		"written behind what only reads": {
			lines:    "account id=1\ncredit id=1 amount=1\ncommit",
			balances: "1000.00 250.00 0.00", code: exitFailed, stdout: "1000.00", stderr: "The transaction was begun read-only: rollback, and begin one with credit",
		},
		"asked to be read-only": {
			lines: "credit id=1 amount=1", args: []string{"--read-only"},
			balances: "1000.00 250.00 0.00", code: exitFailed, stderr: "read-only transaction",
		},
		"another isolation": {
			lines:    "credit id=1 amount=1\ntransfer source=1 target=2 amount=10\ncommit",
			balances: "1000.00 250.00 0.00", code: exitFailed, stdout: "UPDATE 1", stderr: "transfer wants a transaction of another kind: commit or rollback first",
		},
		"a quote": {lines: "account 'id=1", balances: "1000.00 250.00 0.00", code: exitFailed, stderr: "a quote is not closed"},
		"stdin":   {lines: "account id=@-", balances: "1000.00 250.00 0.00", code: exitFailed, stderr: "stdin is where the requests come from"},
	} {
		testenv.Exec(t, s.url, "UPDATE account SET balance = CASE id WHEN 1 THEN 1000 WHEN 2 THEN 250 ELSE 0 END")
		r := s.transacting(t, tt.lines, tt.args...)
		if got := s.balances(t); got != tt.balances || r.code != tt.code || !strings.Contains(r.stdout, tt.stdout) || !strings.Contains(r.stderr, tt.stderr) {
			t.Errorf("%s: code %d, stdout %q, stderr %q, balances %s", name, r.code, r.stdout, r.stderr, got)
		}
		testenv.Wait(t, timeLimit, "the transaction to end", func() bool { return s.openTransactions(t) == 0 })
	}
}

// A person goes on after an error, and a signal commits nothing.
func TestTxWithAPerson(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t)
	c, err := client.New(s.bus.Connect(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{"transfer source=3 target=2 amount=10", "account id=1", "rollback", "transfer source=1 target=2 amount=10", "commit", "commit", `\q`}
	var prompts []string
	var notes bytes.Buffer
	sh := &shell.Shell{
		Client: c, Interactive: true, Options: client.TxOptions{Isolation: "serializable"}, Replies: &console.Replies{Out: io.Discard, Notes: &notes},
		Next: func(prompt string) (string, error) {
			prompts = append(prompts, prompt)
			line := lines[0]
			lines = lines[1:]
			return line, nil
		},
		Script: func(_ context.Context, name, _ string, args []string) (client.Script, error) {
			p := client.Params{}
			for _, arg := range args {
				key, value, _ := strings.Cut(arg, "=")
				p[key] = value
			}
			return client.Script{Name: name, Params: p}, nil
		},
	}
	if err := sh.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(prompts, ""); got != "tx> tx!> tx!> tx> tx*> tx> tx> " {
		t.Errorf("prompts %q", got)
	}
	for _, want := range []string{"sql_error", "rolled back", "committed", "no transaction is open"} {
		if !strings.Contains(notes.String(), want) {
			t.Errorf("%q was not said: %s", want, notes.String())
		}
	}
	var shown string
	complete := shell.Complete(t.Context(), c, func(words []string) { shown = strings.Join(words, " ") })
	for typed, want := range map[string]string{
		"tra": "transfer ", "transfer so": "transfer source=", "commi": "commit ", "nowhere x": "nowhere x",
		"ro": "rollback ", "r": "r (release rollback run)", "ord": "orders.", "run orders.": "run orders. (orders.all orders.discount orders.search)",
	} {
		shown = ""
		got, _, _ := complete(typed, len(typed), '\t')
		if shown != "" {
			got += " (" + shown + ")"
		}
		if got != want {
			t.Errorf("%q becomes %q, want %q", typed, got, want)
		}
	}
	if got := s.balances(t); got != "990.00 260.00 0.00" {
		t.Errorf("balances %s", got)
	}
}

// A signal rolls back, whatever was asked for at the end of the input.
func TestTxIsInterrupted(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t)
	in, out := io.Pipe()
	c := startFed(t, in, "tx", "--commit", "--server", s.bus.URL())
	if _, err := io.WriteString(out, "transfer source=1 target=2 amount=10\n"); err != nil {
		t.Fatal(err)
	}
	says(t, &c.stdout, "UPDATE 1")
	c.signal(t, syscall.SIGINT)
	if code := c.code(t); code != exitFailed || !strings.Contains(c.stderr.String(), "rolled back") {
		t.Errorf("exit code %d, %s", code, &c.stderr)
	}
	out.Close()
	if got := s.balances(t); got != "1000.00 250.00 0.00" {
		t.Errorf("balances %s", got)
	}
}
