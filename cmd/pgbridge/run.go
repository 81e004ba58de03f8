package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/params"
)

type runCmd struct {
	clientFlags
	Args    []string      `arg:"" optional:"" placeholder:"SCRIPT|NAME=VALUE" help:"The script, then its parameters: NAME=TEXT, NAME:=JSON, either from a file as NAME=@FILE (- is stdin)."`
	SQL     string        `name:"sql" placeholder:"SQL" help:"Run this instead of a script, where the configuration allows it."`
	As      string        `placeholder:"CALLER" help:"Be this caller."`
	Timeout time.Duration `placeholder:"DURATION" help:"Time limit; the script's and the configuration's hold too."`
	ID      string        `name:"id" placeholder:"ID" help:"Message id: sent again with the same one, the script runs once."`
	Job     bool          `help:"Leave it in the stream of jobs and wait for the result."`
	NoWait  bool          `help:"With --job: do not wait."`
	Watch   time.Duration `placeholder:"DURATION" help:"Run it again and again, so often, until Ctrl-C."`
	Timing  bool          `help:"Say how long it took, as is always done at a terminal."`
	outputFlags
}

// outputFlags say how a reply is printed.
type outputFlags struct {
	JSON   bool `name:"json" xor:"form" help:"Print the reply as it is; so it is too where nobody looks at a terminal."`
	CSV    bool `name:"csv" xor:"form" help:"Print the rows as CSV with a header line; NULL is empty."`
	NDJSON bool `name:"ndjson" xor:"form" help:"Print the rows, one JSON object a line."`
	Table  bool `xor:"form" help:"Print tables, also where nobody looks at a terminal."`
	Wide   bool `help:"Do not make tables fit the terminal."`
}

// replies prints to out, as the flags say.
func (f outputFlags) replies(p *process, out io.Writer) *console.Replies {
	r := &console.Replies{Out: out, Notes: p.stderr}
	switch {
	case f.CSV:
		r.Form = console.CSV
	case f.NDJSON:
		r.Form = console.NDJSON
	case f.JSON, !f.Table && !console.IsTerminal(p.stdout):
		r.Form = console.Raw
	}
	if r.Form != console.Tables {
		r.Out = p.shown(out)
	}
	if !f.Wide {
		r.Width = console.Width(p.stdout)
	}
	return r
}

// Help shows examples.
func (runCmd) Help() string {
	return `Runs one script in one transaction. The script's own types say what a parameter
is, so text is right for nearly all; a json parameter takes JSON, an array
parameter a JSON array. NAME:=null is NULL. At a terminal rows are a table that fits
it: long values are cut (--wide shows them whole), and where there are too many
columns each row is a record. Exits with 1 when the answer is an error.

Examples:

    pgbridge run transfer source=1 target=2 amount=10.50
    pgbridge run account id=1 --json
    pgbridge run orders.search customer=Ada --csv > orders.csv
    pgbridge run orders.search customer=Ada --ndjson | jq .total
    pgbridge run orders.search customer=Ada --watch 2s
    pgbridge run --sql 'SELECT @a::int + 1' a=41
    pgbridge run --sql 'SELECT @rows::jsonb' rows=@rows.json --as alice --timeout 30s
    pgbridge run --context staging transfer source=1 target=2 amount=5
    pgbridge run --job --id order-77 transfer source=1 target=2 amount=5`
}

// Run sends the request and prints the reply.
func (cmd runCmd) Run(ctx context.Context, p *process) error {
	what, err := cmd.invocation(p)
	if err != nil {
		return &usageError{err}
	}
	r, err := cmd.connect(p, "run", cmd.As)
	if err != nil {
		return err
	}
	defer r.close()
	script, err := r.script(ctx, what)
	if err != nil {
		return err
	}
	script.MessageID = cmd.ID
	ctx, done := r.whileAllowed(ctx)
	defer done()
	if cmd.Watch == 0 {
		return cmd.once(ctx, r, script, p.stdout)
	}
	return p.watch(ctx, cmd.Watch, func(ctx context.Context, out io.Writer) error {
		return cmd.once(ctx, r, script, out)
	})
}

// once sends the request and prints the reply to out.
func (cmd runCmd) once(ctx context.Context, r *remote, script client.Script, out io.Writer) error {
	replies := cmd.replies(r.process, out)
	replies.SQL = cmd.SQL
	begun := time.Now()
	reply, err := cmd.send(ctx, r, script)
	took := time.Since(begun)
	if failure, ok := client.AsError(err); ok {
		replies.PrintError(failure)
		return &silentError{exitFailed}
	}
	if err != nil || reply == nil {
		return err
	}
	if err := replies.Print(reply); err != nil {
		return err
	}
	if cmd.Timing || replies.Form == console.Tables && console.IsTerminal(r.process.stderr) {
		again := ""
		if reply.Attempts > 1 {
			again = fmt.Sprintf(", %d attempts", reply.Attempts)
		}
		r.say("%s%s", took.Round(10*time.Microsecond), again)
	}
	return nil
}

// send returns the reply; nil where none was wanted.
func (cmd runCmd) send(ctx context.Context, r *remote, script client.Script) (*client.Reply, error) {
	if !cmd.Job {
		return r.Run(ctx, script)
	}
	job, err := r.Job(ctx, script)
	if err != nil {
		return nil, err
	}
	r.announce(job)
	if cmd.NoWait {
		job.Close()
		return nil, nil
	}
	reply, err := job.Wait(ctx)
	return reply, r.goesOn(ctx, err)
}

// announce says where a job is.
func (r *remote) announce(j *client.Job) {
	if j.Duplicate {
		r.say("job %s was sent before, as number %d of stream %s; this is about that one", console.Printable(j.ID), j.Sequence, j.Stream)
		return
	}
	r.say("job %s is number %d of stream %s", console.Printable(j.ID), j.Sequence, j.Stream)
}

// goesOn says so of a job that nobody waits for any more.
func (r *remote) goesOn(ctx context.Context, err error) error {
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case errors.Is(context.Cause(ctx), nats.ErrPermissionViolation):
		return errors.Join(err, errors.New("the job goes on"))
	}
	return errors.New("interrupted; the job goes on, and the same --id finds its result")
}

// invocation is what to run and with what.
type invocation struct {
	name    string // of a script; empty: SQL
	sql     string
	timeout time.Duration
	params  []params.Param
}

func (cmd runCmd) invocation(p *process) (invocation, error) {
	switch {
	case cmd.SQL == "" && (len(cmd.Args) == 0 || strings.Contains(cmd.Args[0], "=")):
		return invocation{}, errors.New("name a script, or give --sql")
	case cmd.Job && (cmd.SQL != "" || cmd.As != ""):
		return invocation{}, errors.New("--job: a job is a script and has no caller")
	case cmd.NoWait && !cmd.Job:
		return invocation{}, errors.New("--no-wait goes with --job")
	case cmd.Watch < 0:
		return invocation{}, errors.New("--watch: want a positive duration")
	case cmd.Watch > 0 && (cmd.Job || cmd.ID != ""):
		return invocation{}, errors.New("--watch goes without --job and --id, which are for what is done once")
	case cmd.Timeout < 0:
		return invocation{}, errors.New("--timeout: want a positive duration")
	}
	c, args := invocation{sql: cmd.SQL, timeout: cmd.Timeout}, cmd.Args
	if cmd.SQL == "" {
		c.name, args = args[0], args[1:]
	}
	var err error
	c.params, err = params.Read(args, p.stdin)
	return c, err
}

// script is what to ask for.
func (r *remote) script(ctx context.Context, what invocation) (client.Script, error) {
	s := client.Script{Name: what.name, SQL: what.sql, Timeout: what.timeout, Params: client.Params{}}
	types, err := r.types(ctx, what)
	if err != nil {
		return s, err
	}
	for _, p := range what.params {
		if s.Params[p.Name], err = p.Encode(types[p.Name]); err != nil {
			return s, err
		}
	}
	return s, nil
}

// types asks for the types of a script's parameters where a value may be meant
// as JSON. A user who may run it need not be allowed to ask: then it is text.
func (r *remote) types(ctx context.Context, what invocation) (map[string][]string, error) {
	if what.name == "" || !params.AnyLikeJSON(what.params) {
		return nil, nil
	}
	d, err := r.describe(ctx, what.name)
	var refused *client.Error
	switch {
	case errors.As(err, &refused), errors.Is(err, nats.ErrPermissionViolation):
		return nil, nil // the run's answer will be an error, too, or it is text
	case err != nil:
		return nil, err
	}
	types := map[string][]string{}
	for _, p := range d.Parameters {
		types[p.Name] = p.Types
	}
	return types, nil
}

// describe asks for a script's description, for a user who may not be allowed to.
func (r *remote) describe(ctx context.Context, script string) (*client.Description, error) {
	ctx, done := r.whileDescribed(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	return r.Describe(ctx, script)
}
