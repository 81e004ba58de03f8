package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

// childEnv makes a test binary one of the children that Spawn starts: it holds what
// that was told.
const childEnv = "PGBRIDGE_TESTENV_CHILD"

// Child is the test binary once more, in a process of its own that can be killed or
// stopped. Its methods are for one goroutine at a time.
type Child struct {
	Log     string // the file that it writes its log to
	command *exec.Cmd
	stdin   io.Closer
}

// Spawn starts a child that serves with a configuration, which travels as JSON. The
// package's TestMain begins with [ServeChild]. The child is killed when the test
// ends; a failed test shows its log.
func Spawn(t testing.TB, config any) *Child {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &Child{Log: t.TempDir() + "/log", command: exec.Command(program)}
	log, err := os.Create(c.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.command.Env, c.command.Stderr = append(os.Environ(), childEnv+"="+string(text)), log
	if c.stdin, err = c.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		if t.Failed() {
			text, _ := os.ReadFile(c.Log)
			t.Logf("the child's log ends with\n%s", text[max(0, len(text)-20_000):])
		}
	})
	return c
}

// Signal sends the child a signal.
func (c *Child) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := c.command.Process.Signal(sig); err != nil {
		t.Fatalf("send %s to the child: %v", sig, err)
	}
}

// Kill ends the child with SIGKILL, and waits.
func (c *Child) Kill() {
	_ = c.command.Process.Kill()
	_ = c.command.Wait() // it was killed
	_ = c.stdin.Close()
}

// ServeChild is the main function of the children that Spawn starts, and does not
// return there; in any other process it does nothing. A child serves until SIGTERM,
// or until its parent, which holds its standard input, is gone.
func ServeChild[C any](serve func(context.Context, C) error) {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	var config C
	err := json.Unmarshal([]byte(text), &config)
	if err == nil {
		err = untilOrphaned(func(ctx context.Context) error { return serve(ctx, config) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func untilOrphaned(serve func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return serve(ctx)
}
