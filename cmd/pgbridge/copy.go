package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
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

    pgbridge copy export_orders since=2026-01-01 -o orders.csv
    pgbridge copy import_orders orders.csv
    gunzip -c orders.csv.gz | pgbridge copy import_orders
    pgbridge copy export_orders since=2026-01-01 | gzip > orders.csv.gz
    pgbridge copy export_orders since=2026-01-01 --object exports/orders.csv
    pgbridge copy import_orders --object imports/orders.csv --job --id orders-2026-11
    pgbridge copy --sql 'COPY (SELECT 1) TO STDOUT'`
}

// Run copies, and says what came of it.
func (cmd copyCmd) Run(ctx context.Context, p *process) error {
	what, file, err := cmd.invocation(p)
	if err != nil {
		return &usageError{err}
	}
	run := runCmd{clientFlags: cmd.clientFlags, SQL: cmd.SQL, As: cmd.As, Timeout: cmd.Timeout, ID: cmd.ID}
	connected, err := run.connect(p, "copy")
	if err != nil {
		return err
	}
	defer connected.nc.Close()
	k := &copyClient{runClient: connected, copyCmd: cmd, file: file, begun: time.Now()}
	return k.report(k.copy(ctx, what))
}

// invocation reads the arguments; a file is what looks like no parameter.
func (cmd copyCmd) invocation(p *process) (what invocation, file string, err error) {
	args := cmd.Args
	if cmd.SQL == "" {
		if len(args) == 0 || strings.Contains(args[0], "=") {
			return what, "", errors.New("name a script, or give --sql")
		}
		what.script, args = args[0], args[1:]
	}
	var params []string
	for _, arg := range args {
		switch {
		case strings.Contains(arg, "=") && !strings.Contains(strings.SplitN(arg, "=", 2)[0], "/"):
			params = append(params, arg)
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
	what.params, err = readParams(params, p.stdin)
	return what, file, err
}

// copyClient does one copy.
type copyClient struct {
	*runClient
	copyCmd
	file  string // to copy in; empty: none was named
	begun time.Time
}

// copyOpening is what the answer to the request says.
type copyOpening struct {
	ID          string         `json:"id"`
	Tx          string         `json:"tx"`
	Data        string         `json:"data"`
	ChunkBytes  int            `json:"chunk_bytes"`
	WindowBytes int            `json:"window_bytes"`
	StallMS     int64          `json:"stall_ms"`
	Error       *service.Error `json:"error"`

	Rows  int64 `json:"rows"` // with an object, which is all there is
	Bytes int64 `json:"bytes"`
}

// copied is what was copied.
type copied struct{ rows, bytes int64 }

// copyError is why nothing was copied. A nil reason is the server's word.
type copyError struct {
	failure *service.Error // nil: it is not the server's
	err     error
}

func (e *copyError) Error() string {
	if e.failure != nil {
		return fmt.Sprintf("%s: %s", e.failure.Code, e.failure.Message)
	}
	return e.err.Error()
}

func (e *copyError) Unwrap() error { return e.err }

// job leaves the copy to a worker and waits for its last word.
func (k *copyClient) job(ctx context.Context, script string, body []byte) (copied, error) {
	result, err := k.sendJob(ctx, "copy", script, body)
	if err != nil {
		return copied{}, &copyError{err: errors.Join(err, errOutcomeUnknown)} // it may be in the stream
	}
	var o copyOpening
	if err := json.Unmarshal(result.Data, &o); err != nil {
		return copied{}, fmt.Errorf("read the result of a job: %w", err)
	}
	if o.Error != nil {
		return copied{}, &copyError{failure: o.Error}
	}
	return copied{o.Rows, o.Bytes}, nil
}

// copy copies, and gives the output its name when all of it is there. The
// output is opened before anything is asked for: what the script copies out it
// may delete as well.
func (k *copyClient) copy(ctx context.Context, what invocation) (copied, error) {
	if err := k.direction(ctx, what.script); err != nil {
		return copied{}, err
	}
	to, err := k.output()
	if err != nil {
		return copied{}, err
	}
	n, err := k.exchange(ctx, what, to)
	if err != nil {
		to.discard()
		return n, err
	}
	return n, to.keep()
}

// direction refuses a file that does not go with the script before anything is
// asked for. A user who may copy need not be allowed to ask for a script's kind:
// then it is found out later.
func (k *copyClient) direction(ctx context.Context, script string) error {
	if script == "" || k.file == "" && k.Output == "" {
		return nil
	}
	reply, err := k.request(ctx, nats.NewMsg(k.runClient.subject("describe", script)), answerLimit)
	if err != nil {
		return nil
	}
	var described struct{ Kind string }
	if err := json.Unmarshal(reply.Data, &described); err != nil || !strings.HasPrefix(described.Kind, "copy ") {
		return nil
	}
	return k.suits(described.Kind == "copy in")
}

// suits refuses a file of the wrong direction.
func (k *copyClient) suits(in bool) error {
	switch {
	case in && k.Output != "":
		return &usageError{errors.New("-o: the script copies into PostgreSQL, and not out of it")}
	case !in && k.file != "":
		return &usageError{fmt.Errorf("%s: the script copies out of PostgreSQL, and not into it; -o names the output", k.file)}
	}
	return nil
}

// exchange sends the request and does what the answer says.
func (k *copyClient) exchange(ctx context.Context, what invocation, output io.Writer) (copied, error) {
	body, err := k.requestBody(ctx, what)
	if err != nil {
		return copied{}, err
	}
	if k.copyCmd.Job {
		return k.job(ctx, what.script, body)
	}
	ctx, done := k.whileAllowed(ctx)
	defer done()
	inbox := k.nc.NewInbox()
	messages := make(chan *nats.Msg, 64<<10)
	sub, err := k.nc.ChanSubscribe(inbox+".>", messages)
	if err != nil {
		return copied{}, fmt.Errorf("subscribe: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	link := &copyLink{nc: k.nc, inbox: inbox, messages: messages}
	to := k.runClient.subject("copy", what.script)
	first, err := link.open(ctx, to, body, k.patience())
	if err != nil {
		return copied{}, err
	}
	var o copyOpening
	if err := json.Unmarshal(first.Data, &o); err != nil {
		return copied{}, fmt.Errorf("read the reply to %s: %w", to, err)
	}
	link.opening = o
	switch {
	case o.Error != nil:
		return copied{}, &copyError{failure: o.Error}
	case k.copyCmd.Object != "":
		return copied{o.Rows, o.Bytes}, nil
	case o.Data != "":
		return k.in(ctx, link)
	}
	return k.out(ctx, link, output)
}

func (k *copyClient) requestBody(ctx context.Context, what invocation) ([]byte, error) {
	body, err := k.body(ctx, what)
	if err != nil || k.copyCmd.Object == "" {
		return body, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	bucket, name, _ := strings.Cut(k.copyCmd.Object, "/")
	if fields["object"], err = json.Marshal(map[string]string{"bucket": bucket, "name": name}); err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	if body, err = json.Marshal(fields); err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return body, nil
}

// in copies a file, or stdin, into PostgreSQL.
func (k *copyClient) in(ctx context.Context, link *copyLink) (_ copied, err error) {
	defer func() { _ = link.giveUpAfter(err) }() // nothing is committed before the end of the data
	if err := k.suits(true); err != nil {
		return copied{}, err
	}
	from, size, err := k.input()
	if err != nil {
		return copied{}, err
	}
	defer from.Close()
	bar := k.bar(size)
	defer bar.stop()
	return link.upload(ctx, from, bar.add)
}

func (k *copyClient) input() (from io.ReadCloser, size int64, err error) {
	if k.file == "" || k.file == "-" {
		return io.NopCloser(k.process.stdin), 0, nil
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

// out copies to a file, or stdout.
func (k *copyClient) out(ctx context.Context, link *copyLink, to io.Writer) (_ copied, err error) {
	defer func() { err = link.giveUpAfter(err) }()
	if err := k.suits(false); err != nil {
		return copied{}, err
	}
	bar := k.bar(0)
	defer bar.stop()
	return link.download(ctx, to, bar.add)
}

func (k *copyClient) output() (*copyOutput, error) {
	if k.Output == "" || k.Output == "-" {
		return &copyOutput{Writer: k.process.stdout}, nil
	}
	return createOutput(k.Output)
}

func (k *copyClient) bar(total int64) *copyBar {
	if k.Quiet || !isTerminal(k.process.stderr) {
		return nil
	}
	return startBar(k.process.stderr, total, k.begun)
}

// report says whether all rows were copied or none.
func (k *copyClient) report(n copied, err error) error {
	if err == nil {
		k.say("all rows were copied: %d, %s in %s", n.rows, inBytes(n.bytes), time.Since(k.begun).Round(time.Millisecond))
		return nil
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return err
	}
	var refused *copyError
	unknown := errors.As(err, &refused) && (refused.failure != nil && refused.failure.Code == service.CodeUnknown || errors.Is(err, errOutcomeUnknown))
	if refused != nil && refused.failure != nil {
		(&replyPrinter{notes: k.process.stderr, sql: k.copyCmd.SQL}).printError(refused.failure)
	} else {
		k.say("%v", err)
	}
	if unknown {
		k.say("whether the rows were copied is not known")
	} else {
		k.say("nothing was copied")
	}
	return &silentError{exitFailed}
}
