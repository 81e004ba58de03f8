package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/shells"
)

const (
	// completionLimit is how long somebody waits who has pressed a key and said nothing
	// else.
	completionLimit = time.Second
	// mostJobs is how many jobs are suggested.
	mostJobs = 50
)

// complete answers a shell that asks what may come next. It says nothing but that.
func complete(app *kong.Application, args []string, p *process) int {
	// The script for fish sets a variable that is no key of the configuration.
	environ := slices.DeleteFunc(slices.Clone(p.environ), func(e string) bool { return strings.HasPrefix(e, "PGBRIDGE_ACTIVE_HELP=") })
	quiet := &process{environ: environ, stdin: p.stdin, stdout: io.Discard, stderr: io.Discard}
	limit := patience(quiet)
	err := shells.Answer(app, args, p.stdout, func(command string, args []string, flags map[string]string) ([]string, bool) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		values, space, err := suggest(ctx, quiet, command, args, flags)
		if err != nil {
			return nil, true // nobody is there to be asked
		}
		return values, space
	})
	if err != nil {
		return exitFailed
	}
	return exitOK
}

// patience is how long a completion takes at the most.
func patience(p *process) time.Duration {
	if limit, err := time.ParseDuration(p.getenv(config.EnvCompletion)); err == nil && limit > 0 {
		return limit
	}
	return completionLimit
}

// suggest asks the running pgbridge.
func suggest(ctx context.Context, p *process, command string, args []string, flags map[string]string) (values []string, space bool, err error) {
	if command == "completion" {
		return []string{"bash", "zsh", "fish"}, true, nil
	}
	r, err := askedBy(p, flags)
	if err != nil {
		return nil, true, err
	}
	defer r.close()
	ctx, done := r.whileDescribed(ctx)
	defer done()
	switch command {
	case "run", "cursor", "copy", "describe":
		if len(args) > 0 && command != "describe" {
			values, err = r.parameterNames(ctx, args[0])
			return values, false, err
		}
		if len(args) == 0 {
			values, err = r.scriptNames(ctx, command)
		}
	case "sub", "notify":
		if command == "sub" || len(args) == 0 {
			values, err = r.channelNames(ctx, command == "notify")
		}
	case "jobs result", "jobs retry", "jobs rm":
		values, err = r.jobIDs(ctx)
	}
	return values, true, err
}

// askedBy is a connection with the flags that were typed so far.
func askedBy(p *process, flags map[string]string) (*remote, error) {
	var f struct{ clientFlags }
	parser, err := kong.New(&f, kong.Exit(func(int) {}))
	if err != nil {
		return nil, err
	}
	var args []string
	for _, flag := range parser.Model.Flags {
		if value, given := flags[flag.Name]; given && flag.Name != "help" {
			args = append(args, "--"+flag.Name+"="+value)
		}
	}
	if _, err := parser.Parse(args); err != nil {
		return nil, err
	}
	return f.connect(p, "completion", "", nats.Timeout(patience(p)/2), nats.NoReconnect())
}

func (r *remote) scriptNames(ctx context.Context, command string) (names []string, err error) {
	scripts, err := r.Scripts(ctx)
	for _, s := range scripts {
		if command == "describe" || command == "cursor" && s.Cursor || (command == "run") == (s.Kind == client.KindRun) && command != "cursor" {
			names = append(names, s.Name)
		}
	}
	return names, err
}

func (r *remote) parameterNames(ctx context.Context, script string) (names []string, err error) {
	d, err := r.Describe(ctx, script)
	if err != nil {
		return nil, err
	}
	for _, p := range d.Parameters {
		names = append(names, p.Name+"=")
	}
	return names, nil
}

func (r *remote) channelNames(ctx context.Context, notify bool) (names []string, err error) {
	channels, err := r.Operator.Channels(ctx)
	for _, c := range channels {
		if c.Notify || !notify {
			names = append(names, c.Name)
		}
	}
	return names, err
}

func (r *remote) jobIDs(ctx context.Context) (ids []string, err error) {
	jobs, _, left := r.Operator.Jobs(ctx, mostJobs)
	results, ended := r.Results(ctx, mostJobs)
	for _, j := range append(jobs, results...) {
		if j.ID != "" {
			ids = append(ids, j.ID)
		}
	}
	return ids, errors.Join(left, ended)
}
