package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// asPgbridge makes the test binary be pgbridge, for tests that need a process
// of its own: signals, exit codes, what is left behind.
const asPgbridge = "TEST_BINARY_IS_PGBRIDGE"

func TestMain(m *testing.M) {
	if os.Getenv(asPgbridge) != "" {
		os.Exit(run(os.Args[1:], testenv.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	testenv.Main(m)
}

// result is what a finished command left.
type result struct {
	code           int
	stdout, stderr string
}

// call runs a command in this process, without any environment.
func call(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(args, environ, strings.NewReader(""), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// child is pgbridge in a process of its own.
type child struct {
	cmd            *exec.Cmd
	stdout, stderr output
	exited         chan struct{}
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func start(t *testing.T, args ...string) *child {
	t.Helper()
	return startIn(t, os.TempDir(), args...)
}

// startIn starts pgbridge with another folder for temporary files.
func startIn(t *testing.T, temp string, args ...string) *child {
	t.Helper()
	return begin(t, []string{"TMPDIR=" + temp}, nil, args)
}

// startWith starts pgbridge with more in its environment.
func startWith(t *testing.T, environ []string, args ...string) *child {
	t.Helper()
	return begin(t, environ, nil, args)
}

// startFed starts pgbridge with something to read.
func startFed(t *testing.T, stdin io.Reader, args ...string) *child {
	t.Helper()
	return begin(t, nil, stdin, args)
}

func begin(t *testing.T, environ []string, stdin io.Reader, args []string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0], args...), exited: make(chan struct{})}
	c.cmd.Env = append(append(os.Environ(), asPgbridge+"=1"), environ...)
	if stdin != nil { // not its reader itself: waiting for the process would wait for that
		feed, err := c.cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer feed.Close()
			io.Copy(feed, stdin) // it ends with the process
		}()
	}
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("start pgbridge: %v", err)
	}
	go func() {
		defer close(c.exited)
		c.cmd.Wait() // the code is read from ProcessState
	}()
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		<-c.exited
		if t.Failed() {
			t.Logf("pgbridge %s\nstdout: %s\nstderr: %s", strings.Join(args, " "), &c.stdout, &c.stderr)
		}
	})
	return c
}

// says waits until the output holds a text.
func says(t *testing.T, o *output, text string) {
	t.Helper()
	testenv.Wait(t, 20*time.Second, "output "+text, func() bool { return strings.Contains(o.String(), text) })
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %s: %v", s, err)
	}
}

func (c *child) hasExited() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// code waits for the end and returns the exit code.
func (c *child) code(t *testing.T) int {
	t.Helper()
	select {
	case <-c.exited:
	case <-time.After(40 * time.Second):
		t.Fatal("pgbridge did not end")
	}
	return c.cmd.ProcessState.ExitCode()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{"nothing", nil, 2, "", "expected one of"},
		{"unknown command", []string{"walk"}, 2, "", "unexpected argument walk"},
		{"unknown flag", []string{"serve", "--foo"}, 2, "", "unknown flag --foo"},
		{"help", []string{"--help"}, 0, "Usage: pgbridge", ""},
		{"version", []string{"version"}, 0, "pgbridge ", ""},
		{"negative count", []string{"sub", "--count", "-1"}, 2, "", "--count"},
		{"dev without a channel", []string{"dev", "--postgres", "postgres://"}, 2, "", "--channel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := call(t, nil, tt.args...)
			if r.code != tt.code || !strings.Contains(r.stdout, tt.stdout) || !strings.Contains(r.stderr, tt.stderr) {
				t.Errorf("code %d, stdout %q, stderr %q; want %d, %q, %q", r.code, r.stdout, r.stderr, tt.code, tt.stdout, tt.stderr)
			}
		})
	}
}

func TestEveryCommandHasExamples(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"serve", "check", "migrate", "dev", "sub", "run", "version"} {
		r := call(t, nil, command, "--help")
		if r.code != 0 || !strings.Contains(r.stdout, "    pgbridge "+command) {
			t.Errorf("%s --help: code %d, no example in\n%s", command, r.code, r.stdout)
		}
	}
}

// configFile writes a configuration and returns its path.
func configFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pgbridge.yaml")
	rewrite(t, path, content)
	return path
}

func rewrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
