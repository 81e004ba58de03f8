package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/wait"
)

// contender is a running process that moves notifications to NATS.
type contender struct {
	command *exec.Cmd
	log     *bytes.Buffer
}

// contenderKind says what a contender is.
type contenderKind string

const (
	bareLoopCore   contenderKind = "loop-core"
	bareLoopStream contenderKind = "loop-jetstream"
	bareEcho       contenderKind = "echo"
	bareService    contenderKind = "service"
	bareClean      contenderKind = "clean-service"
	bareDrain      contenderKind = "drain"
	bareKeys       contenderKind = "keys"
	bareCleanKeys  contenderKind = "clean-keys"
	pgbridgeRun    contenderKind = "pgbridge"
)

// start runs pgbridge, or the bare loop, and waits until events arrive.
func (l *lab) start(ctx context.Context, bare bool, delivery string) (*contender, error) {
	kind := pgbridgeRun
	switch {
	case bare && delivery == core:
		kind = bareLoopCore
	case bare:
		kind = bareLoopStream
	}
	return l.launch(kind, fmt.Sprintf("channels: {%s: {delivery: %s}}\nstreams: {events: {replicas: %d}}\n", channel, delivery, max(1, l.replicas)), func() error { return l.awaitEvent(ctx) })
}

// startService runs something that answers requests, and waits until it does.
func (l *lab) startService(ctx context.Context, kind contenderKind, to string) (*contender, error) {
	config := fmt.Sprintf("scripts: %s\npostgres: {run_connections: %d}\n", filepath.Join(l.dir, "scripts"), clients)
	var params any = newDraw()
	if strings.HasSuffix(to, "bykey") {
		params = map[string]int{"aid": 1}
	}
	return l.launch(kind, config, func() (err error) {
		deadline := time.Now().Add(30 * time.Second)
		for ctx.Err() == nil && time.Now().Before(deadline) {
			if err = request(l.nc, to, params); err == nil {
				return nil
			}
			wait.For(ctx, 50*time.Millisecond)
		}
		return errors.Join(err, ctx.Err())
	})
}

func (l *lab) launch(kind contenderKind, config string, ready func() error) (*contender, error) {
	if kind == pgbridgeRun {
		file := filepath.Join(l.dir, "pgbridge.yaml")
		return l.launchFile(file, l.url, "http: \"off\"\nlog: {level: warn}\n"+config, ready)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(self, "bare", string(kind), l.url)
	command.Env = append(os.Environ(), "BENCH_NATS_URL="+l.natsURL())
	return begin(command, ready)
}

// launchFile runs pgbridge with a configuration, which it writes to the file.
func (l *lab) launchFile(file, postgresURL, config string, ready func() error) (*contender, error) {
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return begin(exec.Command(l.program, "serve", "-c", file, "--postgres", postgresURL, "--nats", l.natsURL()), ready)
}

func begin(command *exec.Cmd, ready func() error) (*contender, error) {
	c := &contender{command: command, log: &bytes.Buffer{}}
	c.command.Stderr = c.log
	if err := c.command.Start(); err != nil {
		return nil, err
	}
	if err := ready(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; its log: %s", err, c.log), c.stop())
	}
	return c, nil
}

// awaitEvent notifies until the first event comes out at the other end.
func (l *lab) awaitEvent(ctx context.Context) error {
	sub, err := l.nc.SubscribeSync(subject)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	for range 150 {
		if err := l.queryRow(ctx, "SELECT pg_notify('"+channel+"', 'warm-up')", nil); err != nil {
			return err
		}
		if _, err := sub.NextMsg(200 * time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
			return err
		}
	}
	return errors.New("no event arrives")
}

// stop ends the process; a bare loop knows no better way than being killed.
func (c *contender) stop() error {
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := c.command.Wait()
	if state := c.command.ProcessState; state != nil && state.Sys().(syscall.WaitStatus).Signaled() {
		return nil
	}
	return err
}

// cpu is the processor time that its threads have used, those that have ended
// left out; 0 where the system does not tell.
func (c *contender) cpu() (used time.Duration) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.command.Process.Pid))
	for _, file := range threads {
		text, err := os.ReadFile(file)
		var ns int64
		if n, _ := fmt.Sscan(string(text), &ns); err == nil && n == 1 {
			used += time.Duration(ns)
		}
	}
	return used
}

// memory is the largest resident size so far in MiB, or 0 where the system
// does not tell.
func (c *contender) memory() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.command.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}
