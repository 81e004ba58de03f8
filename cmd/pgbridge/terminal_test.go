package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// seated is pgbridge with somebody at its terminal.
type seated struct {
	*child
	terminal *os.File
	seen     int // bytes of the screen that were looked at
}

// blocked holds something up with a statement until it is called.
func (s *scripted) blocked(t *testing.T, sql string) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	released := sync.OnceFunc(func() { conn.Close(context.Background()) })
	t.Cleanup(released)
	return released
}

// sit starts pgbridge at a terminal of 80 columns. What a change of the command makes a
// file is none.
func sit(t *testing.T, change func(*exec.Cmd), args ...string) *seated {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asPgbridge+"=1", "TERM=xterm")
	if change != nil {
		change(cmd)
	}
	return seat(t, cmd)
}

// seat starts a program at a terminal of 80 columns.
func seat(t *testing.T, cmd *exec.Cmd) *seated {
	t.Helper()
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 80, Rows: 24})
	if err != nil {
		t.Fatal(err)
	}
	s := &seated{child: &child{cmd: cmd, exited: make(chan struct{})}, terminal: terminal}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buffer := make([]byte, 4096)
		for {
			n, err := terminal.Read(buffer)
			if _, _ = s.stdout.Write(buffer[:n]); err != nil {
				return // the last one who had it open is gone
			}
		}
	}()
	go func() {
		defer close(s.exited)
		<-read
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-s.exited
		terminal.Close()
		if t.Failed() {
			t.Logf("%s: the screen: %q", cmd, s.stdout.String())
		}
	})
	return s
}

// types presses keys.
func (s *seated) types(t *testing.T, keys string) {
	t.Helper()
	if _, err := s.terminal.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// shows waits for texts, one behind the other, in what was not looked at yet.
func (s *seated) shows(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		testenv.Wait(t, timeLimit, "the screen to show "+text, func() bool {
			_, found := s.find(text)
			return found
		})
		s.seen, _ = s.find(text)
	}
}

func (s *seated) find(text string) (end int, found bool) {
	at := strings.Index(s.stdout.String()[s.seen:], text)
	return s.seen + at + len(text), at >= 0
}

// ask types a line at a prompt, and waits for what it shows.
func (s *seated) ask(t *testing.T, prompt, keys string, shown ...string) {
	t.Helper()
	s.shows(t, prompt)
	s.types(t, keys)
	s.shows(t, shown...)
}

const (
	keyUp, keyLeft = "\x1b[A", "\x1b[D"
	ctrlC, ctrlD   = "\x03", "\x04"
)

// A person moves money, thinks again, and gets earlier lines back.
func TestTxAtATerminal(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t, "--set", "sql=true")
	c := sit(t, nil, "tx", "--server", s.bus.URL())
	c.ask(t, "tx> ", "transf\tso\t1 target=2 amount=10\r", "transfer source=1", "UPDATE 1")
	c.ask(t, "tx*> ", "account id=1\r", "account is for read-only transactions", "can be read with")
	c.ask(t, "tx*> ", "savepoint before\r")
	c.ask(t, "tx*> ", keyUp+keyUp+keyUp+"0\r", "amount=100", "UPDATE 1")
	c.ask(t, "tx*> ", "transfer source=3 target=2 amount=1\r", "sql_error")
	c.ask(t, "tx!> ", "rollback to before\r")
	c.ask(t, "tx*> ", "sql SELECT 4x3 AS n"+strings.Repeat(keyLeft, len("3 AS n"))+"\x7f + \r", "\n 7\r\n")
	c.ask(t, "tx*> ", "nonsense that is not sent"+ctrlC)
	c.ask(t, "tx*> ", "cursor orders.all\r", "cursor c1")
	c.ask(t, "tx*> ", "\x1b[200~sql SELECT 'a\tb' AS pasted\x1b[201~\r", "pasted", "1 row")
	c.ask(t, "tx*> ", "commit\r", "committed")
	c.ask(t, "tx> ", `\q`+"\r")
	if code := c.code(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if got := s.balances(t); got != "990.00 260.00 0.00" {
		t.Errorf("balances %s", got)
	}
	if screen := c.stdout.String(); strings.Contains(screen, "not_found") {
		t.Error("the line that was taken back was sent")
	}
}

// However a person leaves, nothing is left open, and the terminal is as it was.
func TestTxIsLeft(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t)
	for name, tt := range map[string]struct {
		leave func(*seated)
		code  int
	}{
		"Ctrl-D":     {func(c *seated) { c.types(t, ctrlD) }, exitOK},
		`\q`:         {func(c *seated) { c.types(t, "\\q\r") }, exitOK},
		"terminated": {func(c *seated) { c.signal(t, syscall.SIGTERM) }, exitFailed},
	} {
		c := sit(t, nil, "tx", "--server", s.bus.URL())
		c.shows(t, "tx> ")
		c.types(t, "transfer source=1 target=2 amount=10\r")
		c.shows(t, "UPDATE 1", "tx*> ")
		tt.leave(c)
		c.shows(t, "rolled back")
		if code := c.code(t); code != tt.code {
			t.Errorf("%s: exit code %d, want %d", name, code, tt.code)
		}
		if screen := c.stdout.String(); strings.Count(screen, "\x1b[?2004h") != strings.Count(screen, "\x1b[?2004l") {
			t.Errorf("%s: the terminal is left in the mode for pasting", name)
		}
	}
	if got := s.balances(t); got != "1000.00 250.00 0.00" {
		t.Errorf("balances %s", got)
	}
	if n := s.openTransactions(t); n != 0 {
		t.Errorf("%d transactions are open", n)
	}
}

// Ctrl-C stops what runs, and nothing else: the next request begins anew.
func TestTxRequestIsStopped(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "wait", "-- timeout: 1m\nSELECT pg_advisory_xact_lock(17);")
	s.serve(t, "--set", "transactions.max_timeout=1m")
	s.blocked(t, "SELECT pg_advisory_xact_lock(17)")
	c := sit(t, nil, "tx", "--server", s.bus.URL())
	c.ask(t, "tx> ", "transfer source=1 target=2 amount=10\r", "UPDATE 1")
	c.ask(t, "tx*> ", "wait\r")
	waits := func() bool {
		return testenv.Value[int64](t, s.url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == 1
	}
	testenv.Wait(t, timeLimit, "the script to wait", waits)
	c.types(t, ctrlC)
	c.shows(t, "rolled back", "stopped")
	testenv.Wait(t, timeLimit, "PostgreSQL to stop it", func() bool { return !waits() })
	c.ask(t, "tx> ", "account id=1\r", "1000.00")
	c.ask(t, "tx*> ", ctrlD, "rolled back")
	if code := c.code(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]`)

// wantBar holds that a bar was drawn within its line, and is gone.
func (s *seated) wantBar(t *testing.T, unit string) {
	t.Helper()
	screen := s.stdout.String()
	if last := strings.LastIndex(screen, unit); !strings.Contains(screen[last:], "\r\x1b[K") {
		t.Error("the bar stays")
	}
	for line := range strings.SplitSeq(screen, "\r") {
		if shown := escapes.ReplaceAllString(line, ""); len(shown) >= 80 && strings.Contains(shown, unit) {
			t.Errorf("the bar takes %d columns of 80: %q", len(shown), shown)
		}
	}
}

// What is long shows how far it is on the terminal, and nothing of it gets into what
// is written elsewhere.
func TestProgressAtATerminal(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	testenv.Exec(t, s.url, "CREATE TABLE load (n int)")
	s.write(t, "load", "-- timeout: 1m\nCOPY load FROM STDIN;")
	s.write(t, "slow_out", "-- timeout: 1m\nCOPY (SELECT n, pg_advisory_xact_lock_shared(17) FROM generate_series(1, 3) n) TO STDOUT;")
	s.write(t, "slow", "-- timeout: 1m\nSELECT n, (SELECT pg_advisory_xact_lock_shared(17))::text AS x FROM generate_series(1, 3) n;")
	s.serve(t, "--set", "transactions.max_timeout=1m")
	rows := filepath.Join(t.TempDir(), "rows")
	rewrite(t, rows, strings.Repeat("1\n", 300_000))
	toFile := func(cmd *exec.Cmd) {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close() })
		cmd.Stdout = out
	}
	for _, tt := range []struct {
		name, block, unit string
		change            func(*exec.Cmd)
		args              []string
		out               string
	}{
		{"migrate", "CREATE SCHEMA pgbridge", " of 2 schemas, ", nil, []string{"migrate", "--postgres", s.url}, ""},
		{"check", "LOCK account IN ACCESS EXCLUSIVE MODE", " scripts, ", nil, append([]string{"check"}, s.args()...), ""},
		{"copy in", "LOCK load IN ACCESS EXCLUSIVE MODE", "B/s", nil, []string{"copy", "-s", s.bus.URL(), "load", rows}, ""},
		{"copy out", "SELECT pg_advisory_xact_lock(17)", "B/s", toFile, []string{"copy", "-s", s.bus.URL(), "slow_out"}, "1\t\n2\t\n3\t\n"},
		{"cursor", "SELECT pg_advisory_xact_lock(17)", " rows, ", toFile, []string{"cursor", "-s", s.bus.URL(), "slow", "--csv"}, "n,x\n1,\n2,\n3,\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			release := s.blocked(t, tt.block)
			var out *os.File
			c := sit(t, func(cmd *exec.Cmd) {
				if tt.change != nil {
					tt.change(cmd)
					out = cmd.Stdout.(*os.File)
				}
			}, tt.args...)
			c.shows(t, tt.unit)
			release()
			if code := c.code(t); code != exitOK {
				t.Errorf("exit code %d", code)
			}
			c.wantBar(t, tt.unit)
			if out == nil {
				return
			}
			if text, err := os.ReadFile(out.Name()); err != nil || string(text) != tt.out {
				t.Errorf("the file holds %q (%v), want %q", text, err, tt.out)
			}
		})
	}
}
