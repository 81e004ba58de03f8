package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
)

// Program runs do with a stand-in for a test, so that a program that is no test can
// use this package: what do starts through it ends when do returns, in reverse order,
// and Fatal ends do and becomes the error. The name is for messages. Helpers belong in
// do's own goroutine, and the stand-in has what the helpers of this package use of a
// test: no subtests, no parallel ones.
//
// A program that starts NATSProcess begins with [ServeNATSChild].
func Program(ctx context.Context, name string, do func(testing.TB) error) error {
	if err := useMemory(); err != nil {
		return err
	}
	p := &program{name: name, ctx: ctx}
	done := make(chan error, 1)
	go func() {
		defer close(done) // Fatal ends the goroutine
		done <- do(p)
	}()
	err := <-done // nil after Fatal
	ended := make(chan struct{})
	go func() { // a cleanup may call Fatal, too
		defer close(ended)
		p.cleanUp()
	}()
	<-ended
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(append(p.faults, err)...)
}

// ServeNATSChild is the main function of the processes that NATSProcess starts, and
// does not return there; in any other process it does nothing.
func ServeNATSChild() {
	if config := os.Getenv(natsChildEnv); config != "" {
		runNATSChild(config)
	}
}

// program is the test that a program is for the helpers. The embedded TB is nil: a
// method that is not below is not for programs, and panics.
type program struct {
	testing.TB
	name string
	ctx  context.Context //nolint:containedctx // as in testing.T

	mu       sync.Mutex // guards the rest
	faults   []error
	failed   bool
	cleanups []func()
}

func (p *program) Helper()                  {}
func (p *program) Name() string             { return p.name }
func (p *program) Context() context.Context { return p.ctx }

func (p *program) Log(args ...any)            { fmt.Fprintln(os.Stderr, args...) }
func (p *program) Logf(f string, args ...any) { fmt.Fprintf(os.Stderr, f+"\n", args...) }

func (p *program) Error(args ...any) { p.Errorf("%s", fmt.Sprint(args...)) }

func (p *program) Errorf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
	p.faults = append(p.faults, fmt.Errorf(format, args...))
}

func (p *program) Fatal(args ...any) {
	p.Error(args...)
	runtime.Goexit()
}

func (p *program) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	runtime.Goexit()
}

func (p *program) Fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
}

func (p *program) FailNow() {
	p.Fail()
	runtime.Goexit()
}

func (p *program) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

func (p *program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

func (p *program) TempDir() string {
	dir, err := os.MkdirTemp("", "pgbridge-"+p.name+"-")
	if err != nil {
		p.Fatalf("make a temporary folder: %w", err)
	}
	p.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			p.Errorf("remove a temporary folder: %w", err)
		}
	})
	return dir
}

// cleanUp does what remains to be done, the rest too where one of it gives up.
func (p *program) cleanUp() {
	for {
		p.mu.Lock()
		if len(p.cleanups) == 0 {
			p.mu.Unlock()
			return
		}
		last := p.cleanups[len(p.cleanups)-1]
		p.cleanups = p.cleanups[:len(p.cleanups)-1]
		p.mu.Unlock()
		done := make(chan struct{})
		go func() {
			defer close(done)
			last()
		}()
		<-done
	}
}
