package pgserver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func start(t *testing.T, config Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.SocketDir()); !os.IsNotExist(err) {
			t.Errorf("after Close %s still exists (%v)", s.SocketDir(), err)
		}
	})
	return s
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func execSQL(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func value[T any](t *testing.T, conn *pgx.Conn, sql string) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestStopAndKill(t *testing.T) {
	t.Parallel()
	s := start(t, Config{
		Settings: map[string]string{"full_page_writes": "off", "application_name": `it's a \ test`},
		Files:    map[string][]byte{"extra": []byte("x")},
	})
	conn := connect(t, s.URL(""))
	if got, want := value[string](t, conn, "SELECT reset_val FROM pg_settings WHERE name = 'application_name'"), `it's a \ test`; got != want {
		t.Errorf("application_name = %q, want %q", got, want)
	}
	execSQL(t, conn, "CREATE TABLE kept (n int)")
	execSQL(t, conn, "INSERT INTO kept VALUES (1)")

	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("Stop of a stopped server: %v", err)
	}
	if err := s.StartAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.StartAgain(t.Context()); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("StartAgain of a running server: %v, want an error", err)
	}

	for n := range 3 {
		conn = connect(t, s.URL(""))
		execSQL(t, conn, "INSERT INTO kept VALUES (2)")
		postmaster, ended := s.process.PID(), computeForEver(t, s)
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(postmaster, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("signal to postmaster %d after Kill: %v, want ESRCH", postmaster, err)
		}
		if err := <-ended; err == nil {
			t.Error("a query outlived Kill")
		}
		if err := s.StartAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn = connect(t, s.URL(""))
		if got := value[int](t, conn, "SELECT count(*)::int FROM kept"); got != n+2 {
			t.Errorf("rows after Kill %d = %d, want %d", n, got, n+2)
		}
	}
	if err := s.Kill(); err != nil { // Close has to work from here too
		t.Fatal(err)
	}
}

// computeForEver keeps a backend busy: one that computes does not notice on
// its own that the postmaster is gone. It returns when the query runs, and
// sends how it ended.
func computeForEver(t *testing.T, s *Server) <-chan error {
	t.Helper()
	busy, watcher := connect(t, s.URL("")), connect(t, s.URL(""))
	ended := make(chan error, 1)
	go func() {
		_, err := busy.Exec(t.Context(), "DO $$BEGIN LOOP PERFORM 1; END LOOP; END$$")
		ended <- err
	}()
	deadline := time.Now().Add(10 * time.Second)
	for value[int](t, watcher, "SELECT count(*)::int FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'") == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the query did not start within 10 s")
		}
	}
	return ended
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	first := start(t, Config{Superuser: "boss"})
	execSQL(t, connect(t, first.URL("")), "CREATE DATABASE marked")
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := start(t, Config{Template: first.DataDir(), Superuser: "boss", Password: first.Password()})
	if got := value[string](t, connect(t, second.URL("marked")), "SELECT current_user::text"); got != "boss" {
		t.Errorf("current_user = %q, want boss", got)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("Start with an unknown setting: %v, want the log's words", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Config{}); err == nil {
		t.Error("Start with an ended context: no error")
	}
	if _, err := Start(t.Context(), Config{Template: "/nowhere"}); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("Start from a missing template: %v, want its name", err)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	hourAgo := time.Now().Add(-time.Hour)
	make := func(name string) string {
		dir := filepath.Join(parent, "pgbridge-pg-"+name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	left, used, young, foreign := make("left"), make("used"), make("young"), make("foreign")
	for _, dir := range []string{left, used, young} {
		w, err := openWorkDir(dir, os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		defer w.root.Close()
		defer w.lock.Close()
		if dir != used {
			w.lock.Close()
		}
	}
	for _, dir := range []string{left, used, foreign} {
		if err := os.Chtimes(dir, hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
	}
	// A process that is being forked at this moment has the lock of a closed file for as
	// long as it takes it to begin.
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		sweep(parent, Account{})
		if _, err := os.Stat(left); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	for dir, want := range map[string]bool{left: false, used: true, young: true, foreign: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: exists = %v, want %v", filepath.Base(dir), err == nil, want)
		}
	}
}

func TestReachNamesTheClosedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := Account{name: "someone"}.reach(filepath.Join(dir, "x"))
	if err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("reach = %v, want an error that names %s", err, dir)
	}
}
