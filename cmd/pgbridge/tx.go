package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/params"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/shell"
)

type txCmd struct {
	clientFlags
	As         string        `placeholder:"CALLER" help:"Be this caller."`
	Isolation  string        `placeholder:"LEVEL" help:"Such as serializable or 'repeatable read'."`
	ReadOnly   bool          `help:"Change nothing."`
	Deferrable bool          `help:"With serializable and --read-only: wait for a snapshot that cannot fail."`
	Idle       time.Duration `placeholder:"DURATION" help:"How long it may be without a request."`
	Commit     bool          `help:"Commit at the end of the input."`
	outputFlags
}

// Help shows examples.
func (txCmd) Help() string {
	return `Runs what it reads in a pinned transaction, a request in each line: scripts with
their parameters, savepoints, cursors; help lists them. At a terminal it asks for one
after the other and goes on after an error. A transaction begins with its first
request, as that script wants it unless a flag says otherwise. A file is done as a whole or not at all:
at the first error, or without a commit, everything is rolled back, and the exit code
is 1.

Examples:

    pgbridge tx
    pgbridge tx --isolation serializable --as alice
    pgbridge tx --commit < requests.txt
    echo 'transfer source=1 target=2 amount=5' | pgbridge tx --commit`
}

// Run reads and runs lines.
func (cmd txCmd) Run(ctx context.Context, p *process) error {
	if cmd.Idle < 0 {
		return &usageError{errors.New("--idle: want a positive duration")}
	}
	r, err := cmd.connect(p, "tx", cmd.As)
	if err != nil {
		return err
	}
	defer r.close()
	if console.OpenTerminal(p.stdin, p.stdout) != nil {
		var stop context.CancelFunc
		ctx, stop = untilGone(ctx)
		defer stop()
	}
	ctx, done := r.whileAllowed(ctx)
	defer done()
	s := &shell.Shell{
		Client:  r.Client,
		Options: client.TxOptions{Isolation: cmd.Isolation, ReadOnly: cmd.ReadOnly, Deferrable: cmd.Deferrable, IdleTimeout: cmd.Idle},
		Modes:   r.modes, Replies: cmd.replies(p, p.stdout), Commit: cmd.Commit,
		Script: func(ctx context.Context, name, sql string, args []string) (client.Script, error) {
			if slices.ContainsFunc(args, func(arg string) bool { return strings.HasSuffix(arg, "=@-") }) {
				return client.Script{}, errors.New("stdin is where the requests come from")
			}
			given, err := params.Read(args, nil)
			if err != nil {
				return client.Script{}, err
			}
			return r.script(ctx, invocation{name: name, sql: sql, params: given})
		},
	}
	lines(ctx, p, s)
	return s.Run(ctx)
}

// modes are those that a script wants, for a user who may ask.
func (r *remote) modes(ctx context.Context, script string) (o client.TxOptions) {
	d, err := r.describe(ctx, script)
	if err != nil {
		return o
	}
	on := func(set *bool) bool { return set != nil && *set }
	return client.TxOptions{Isolation: d.Settings.Isolation, ReadOnly: on(d.Settings.ReadOnly), Deferrable: on(d.Settings.Deferrable)}
}

// lines makes a shell read from a person, or else from a file.
func lines(ctx context.Context, p *process, s *shell.Shell) {
	terminal := console.OpenTerminal(p.stdin, p.stdout)
	if terminal == nil {
		s.Next = scanned(ctx, p.stdin)
		return
	}
	s.Interactive = true
	editor := console.NewEditor(terminal)
	editor.Complete(shell.Complete(ctx, s.Client, editor.Show))
	s.Next = func(prompt string) (string, error) { return editor.Line(ctx, prompt) }
	s.Attend = func(ctx context.Context) (context.Context, context.CancelFunc) {
		return signal.NotifyContext(ctx, os.Interrupt)
	}
}

// untilGone returns a context that ends when the process is to end or its terminal is
// gone. Ctrl-C, which ends everything else, is for what runs in the transaction.
func untilGone(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM, syscall.SIGHUP)
	unheard := make(chan os.Signal, 1) // else a second one would kill
	signal.Notify(unheard, os.Interrupt)
	return ctx, func() { signal.Stop(unheard); stop() }
}

// longestLine is how long a request may be.
const longestLine = 16 << 20

// scanned reads lines from a file. A read that blocks when ctx ends is left behind.
func scanned(ctx context.Context, from io.Reader) func(string) (string, error) {
	type read struct {
		line string
		err  error
	}
	arrived := make(chan read)
	go func() {
		scanner := bufio.NewScanner(from)
		scanner.Buffer(nil, longestLine)
		deliver := func(r read) bool {
			select {
			case arrived <- r:
				return true
			case <-ctx.Done():
				return false
			}
		}
		for scanner.Scan() {
			if !deliver(read{line: scanner.Text()}) {
				return
			}
		}
		err := scanner.Err()
		if err == nil {
			err = io.EOF
		}
		deliver(read{err: err})
	}()
	return func(string) (string, error) {
		select {
		case r := <-arrived:
			return r.line, r.err
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}
