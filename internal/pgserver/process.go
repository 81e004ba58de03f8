package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// pollEvery is the pause between two looks at a condition that nothing
// signals: a file's content, another process's children.
const pollEvery = 5 * time.Millisecond

// Process is a running child process. Its methods may be called from several
// goroutines.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of Wait; set before exited is closed
}

// StartProcess starts a command made by Account.Command and waits for it in a
// goroutine of its own, so that it never becomes a zombie.
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *Process) run(started chan<- error) {
	defer close(p.exited)
	// The kernel sends the parent-death signal when the thread that forked
	// ends, not the process: keep that thread until the child is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	p.err = p.cmd.Wait()
}

// PID returns the process id, also after the process has ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed once the process has ended and was waited for.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err returns how the process ended, nil for exit status 0. It blocks until
// the process has ended.
func (p *Process) Err() error {
	<-p.exited
	return p.err
}

// Signal sends a signal. A process that has already ended is no error.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to process %d: %w", sig, p.PID(), err)
	}
	return nil
}

// End sends a signal and waits for the process to end; when ctx ends first it
// kills the process and its children and returns an error.
func (p *Process) End(ctx context.Context, sig os.Signal) error {
	if err := p.Signal(sig); err != nil {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return errors.Join(
			fmt.Errorf("process %d had to be killed, it did not end after %v: %w", p.PID(), sig, context.Cause(ctx)),
			p.Kill())
	}
}

// Kill ends the process and its children with SIGKILL and returns when none
// of them runs any more.
//
// The process is stopped first: a stopped parent forks no further children,
// and does not wait for those that end, so that their ids cannot be taken by
// other processes meanwhile.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	dead, errChildren := p.killChildren()
	errAdopt := adoptOrphans()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return errors.Join(errChildren, err)
	}
	<-p.exited
	if errAdopt == nil {
		reap(dead)
	}
	return errors.Join(errChildren, errAdopt)
}

// killChildren returns the children once all are dead. They stay zombies until
// their parent is gone.
func (p *Process) killChildren() ([]child, error) {
	for range 1000 {
		children, err := childrenOf(p.PID())
		if err != nil {
			return nil, err
		}
		living, err := kill(children)
		if err != nil || living == 0 {
			return children, err
		}
		select {
		case <-p.exited:
			return nil, nil
		case <-time.After(pollEvery):
		}
	}
	return nil, fmt.Errorf("kill the children of process %d: some still run", p.PID())
}

// runToEnd runs a command made by Account.Command, killing it when ctx ends.
func runToEnd(ctx context.Context, cmd *exec.Cmd) error {
	p, err := StartProcess(cmd)
	if err != nil {
		return err
	}
	select {
	case <-p.Exited():
		return p.Err()
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("run %s: %w", cmd.Path, context.Cause(ctx)), p.Kill())
	}
}
