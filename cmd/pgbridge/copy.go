package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/params"
)

type copyCmd struct {
	clientFlags
	Args    []string      `arg:"" optional:"" placeholder:"SCRIPT|NAME=VALUE|FILE" help:"The script, then its parameters as for run, and the file to copy in (default and -: stdin)."`
	Output  string        `short:"o" placeholder:"FILE" help:"Where to copy out to (default and -: stdout). The file appears when all of it is there."`
	SQL     string        `name:"sql" placeholder:"SQL" help:"Run this COPY instead of a script, where the configuration allows it."`
	Object  string        `placeholder:"BUCKET/NAME" help:"Copy from or to this object in NATS instead of a file."`
	Job     bool          `help:"With --object: leave it in the stream of jobs and wait for the result."`
	ID      string        `name:"id" placeholder:"ID" help:"With --job, its id: sent again with the same one, the rows are copied once."`
	As      string        `placeholder:"CALLER" help:"Be this caller."`
	Timeout time.Duration `placeholder:"DURATION" help:"Time limit of the whole copy; the script's and the configuration's hold too."`
	Quiet   bool          `short:"q" help:"Show no progress, even on a terminal."`
}

// Help shows examples.
func (copyCmd) Help() string {
	return `Copies rows out of PostgreSQL to a file or stdout, or into it from a file or
stdin; which of them, the script says. All rows are copied, or none: a copy that
fails, or is interrupted, leaves nothing in the database and no output file, and
cannot be resumed. Exits with 1 then.

Examples:

    pgbridge copy export_orders customer=Ada -o orders.csv
    pgbridge copy import_orders orders.csv
    gunzip -c orders.csv.gz | pgbridge copy import_orders
    pgbridge copy export_orders customer=Ada | gzip > orders.csv.gz
    pgbridge copy export_orders customer=Ada --object exports/orders.csv
    pgbridge copy import_orders --object imports/orders.csv --job --id orders-2026-11
    pgbridge copy --sql 'COPY (SELECT 1) TO STDOUT'`
}

// Run copies, and says what came of it.
func (cmd copyCmd) Run(ctx context.Context, p *process) error {
	what, file, err := cmd.invocation(p)
	if err != nil {
		return &usageError{err}
	}
	r, err := cmd.connect(p, "copy", cmd.As)
	if err != nil {
		return err
	}
	defer r.close()
	k := &copying{copyCmd: cmd, remote: r, file: file, begun: time.Now()}
	return k.report(k.copy(ctx, what))
}

// invocation reads the arguments; a file is what looks like no parameter.
func (cmd copyCmd) invocation(p *process) (what invocation, file string, err error) {
	args := cmd.Args
	if cmd.SQL == "" {
		if len(args) == 0 || strings.Contains(args[0], "=") {
			return what, "", errors.New("name a script, or give --sql")
		}
		what.name, args = args[0], args[1:]
	}
	what.sql, what.timeout = cmd.SQL, cmd.Timeout
	var named []string
	for _, arg := range args {
		switch {
		case strings.Contains(arg, "=") && !strings.Contains(strings.SplitN(arg, "=", 2)[0], "/"):
			named = append(named, arg)
		case file != "":
			return what, "", fmt.Errorf("two files are named: %s and %s", file, arg)
		default:
			file = arg
		}
	}
	bucket, name, _ := strings.Cut(cmd.Object, "/")
	switch {
	case cmd.Timeout < 0:
		return what, "", errors.New("--timeout: want a positive duration")
	case cmd.Object != "" && (bucket == "" || name == ""):
		return what, "", errors.New("--object: want BUCKET/NAME")
	case cmd.Object != "" && (file != "" || cmd.Output != ""):
		return what, "", errors.New("--object goes with no file")
	case cmd.Job && (cmd.Object == "" || cmd.SQL != "" || cmd.As != ""):
		return what, "", errors.New("--job goes with a script and --object, and without --as")
	case cmd.ID != "" && !cmd.Job:
		return what, "", errors.New("--id goes with --job")
	case file != "" && cmd.Output != "":
		return what, "", errors.New("a copy is either in, from a file, or out, with -o")
	}
	what.params, err = params.Read(named, p.stdin)
	return what, file, err
}

// copying is one copy.
type copying struct {
	copyCmd copyCmd
	remote  *remote
	file    string // to copy in; empty: none was named
	begun   time.Time
}

// copy copies, and gives the output its name when all of it is there.
func (k *copying) copy(ctx context.Context, what invocation) (*client.Copied, error) {
	script, err := k.remote.script(ctx, what)
	if err != nil {
		return nil, err
	}
	in, err := k.direction(ctx, what.name)
	if err != nil {
		return nil, err
	}
	ctx, done := k.remote.whileAllowed(ctx)
	defer done()
	if k.copyCmd.Object != "" {
		return k.object(ctx, script)
	}
	if in {
		return k.in(ctx, script)
	}
	n, err := k.out(ctx, script)
	if errors.Is(err, client.ErrDirection) && k.copyCmd.Output == "" { // nobody could tell before
		return k.in(ctx, script)
	}
	return n, err
}

// direction says whether to copy in. A file tells, or the script's kind; a user
// who may copy need not be allowed to ask for that. A file that does not go with
// the kind is refused before anything is asked for.
func (k *copying) direction(ctx context.Context, script string) (in bool, err error) {
	if script == "" || k.copyCmd.Object != "" {
		return k.file != "", nil
	}
	d, err := k.remote.describe(ctx, script)
	if err != nil || d.Info.Kind != client.KindCopyIn && d.Info.Kind != client.KindCopyOut {
		return k.file != "", nil
	}
	in = d.Info.Kind == client.KindCopyIn
	return in, k.suits(in)
}

// suits refuses a file of the wrong direction.
func (k *copying) suits(in bool) error {
	switch {
	case in && k.copyCmd.Output != "":
		return &usageError{errors.New("-o: the script copies into PostgreSQL, and not out of it")}
	case !in && k.file != "":
		return &usageError{fmt.Errorf("%s: the script copies out of PostgreSQL, and not into it; -o names the output", k.file)}
	}
	return nil
}

// object copies from or to an object, as a job if that was asked for.
func (k *copying) object(ctx context.Context, script client.Script) (*client.Copied, error) {
	bucket, name, _ := strings.Cut(k.copyCmd.Object, "/")
	object := client.Object{Bucket: bucket, Name: name}
	o := client.CopyOptions{ID: k.id()}
	if !k.copyCmd.Job {
		defer k.watched(o.ID)()
		return k.remote.CopyObject(ctx, script, object, o)
	}
	script.MessageID = k.copyCmd.ID
	job, err := k.remote.CopyJob(ctx, script, object, o)
	if err != nil {
		return nil, err
	}
	k.remote.announce(job)
	defer k.watched(o.ID)() // behind what was announced, or that would be in its line
	n, err := job.Copied(ctx)
	if _, refused := client.AsError(err); err != nil && !refused {
		err = errors.Join(k.remote.goesOn(ctx, err), client.ErrOutcomeUnknown)
	}
	return n, err
}

// id names the copy for who watches it. It is part of what a job says, and the same job
// has to say the same.
func (k *copying) id() string {
	if k.copyCmd.ID == "" {
		return rand.Text()
	}
	sum := sha256.Sum256([]byte(k.copyCmd.ID))
	return hex.EncodeToString(sum[:16])
}

// watched shows, until the function that it returns is called, how far pgbridge says
// that a copy is.
func (k *copying) watched(id string) (stop func()) {
	bar := k.bar(0)
	if bar == nil {
		return func() {}
	}
	unheard, err := k.remote.WatchCopy(id, func(bytes, total int64) { bar.Set(int(bytes), int(total)) })
	if err != nil { // so is the copy's request, which says so
		return bar.Stop
	}
	return func() { unheard(); bar.Stop() }
}

// in copies a file, or stdin, into PostgreSQL.
func (k *copying) in(ctx context.Context, script client.Script) (*client.Copied, error) {
	from, size, err := k.input()
	if err != nil {
		return nil, err
	}
	defer from.Close()
	bar := k.bar(size)
	defer bar.Stop()
	n, err := k.remote.CopyIn(ctx, script, from, client.CopyOptions{Progress: bar.Add})
	if errors.Is(err, client.ErrDirection) {
		return nil, k.suits(false)
	}
	return n, err
}

func (k *copying) input() (from io.ReadCloser, size int64, err error) {
	if k.file == "" || k.file == "-" {
		return io.NopCloser(k.remote.process.stdin), 0, nil
	}
	f, err := os.Open(k.file)
	if err != nil {
		return nil, 0, err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	return f, size, nil
}

// out copies to a file, or stdout. The output is opened before anything is asked
// for: what the script copies out it may delete as well.
func (k *copying) out(ctx context.Context, script client.Script) (*client.Copied, error) {
	to, err := k.output()
	if err != nil {
		return nil, err
	}
	bar := k.bar(0)
	defer bar.Stop()
	n, err := k.remote.CopyOut(ctx, script, to, client.CopyOptions{Progress: bar.Add})
	if err != nil {
		to.Discard()
		if errors.Is(err, client.ErrDirection) {
			return nil, cmp.Or(k.suits(true), err)
		}
		return nil, err
	}
	return n, to.Keep()
}

func (k *copying) output() (*console.Output, error) {
	if k.copyCmd.Output == "" || k.copyCmd.Output == "-" {
		return &console.Output{Writer: k.remote.process.shown(k.remote.process.stdout)}, nil
	}
	return console.CreateOutput(k.copyCmd.Output)
}

func (k *copying) bar(total int64) *console.Bar {
	if k.copyCmd.Quiet || !console.IsTerminal(k.remote.process.stderr) {
		return nil
	}
	return console.StartBar(k.remote.process.stderr, total, k.begun)
}

func (k *copying) notices(n *client.Copied) {
	(&console.Replies{Notes: k.remote.process.stderr}).PrintNotices(n.Notices)
}

// report says whether all rows were copied or none.
func (k *copying) report(n *client.Copied, err error) error {
	var usage *usageError
	switch {
	case err == nil && n.Skipped > 0:
		k.notices(n)
		k.remote.say("%d rows were copied, %s in %s; %d were skipped, as the script's ON_ERROR says", n.Rows, console.Bytes(n.Bytes), time.Since(k.begun).Round(time.Millisecond), n.Skipped)
		return nil
	case err == nil:
		k.notices(n)
		k.remote.say("all rows were copied: %d, %s in %s", n.Rows, console.Bytes(n.Bytes), time.Since(k.begun).Round(time.Millisecond))
		return nil
	case errors.As(err, &usage):
		return err
	}
	if failure, ok := client.AsError(err); ok {
		(&console.Replies{Notes: k.remote.process.stderr, SQL: k.copyCmd.SQL}).PrintError(failure)
	} else {
		k.remote.say("%v", err)
	}
	if errors.Is(err, client.ErrOutcomeUnknown) {
		k.remote.say("whether the rows were copied is not known")
	} else {
		k.remote.say("nothing was copied")
	}
	return &silentError{exitFailed}
}
