package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/subject"
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
	JSON    bool          `name:"json" help:"Print the reply as it is; so it is too where nobody looks at a terminal."`
}

// Help shows examples.
func (runCmd) Help() string {
	return `Runs one script in one transaction. The script's own types say what a parameter
is, so text is right for nearly all; a json parameter takes JSON, an array
parameter a JSON array. NAME:=null is NULL. Exits with 1 when the answer is an
error.

Examples:

    pgbridge run transfer source=1 target=2 amount=10.50
    pgbridge run account id=1 --json
    pgbridge run --sql 'SELECT @a::int + 1' a=41
    pgbridge run import rows:=@rows.json --as alice --timeout 30s
    pgbridge run --job --id order-77 transfer source=1 target=2 amount=5`
}

// Run sends the request and prints the reply.
func (cmd runCmd) Run(ctx context.Context, p *process) error {
	what, err := cmd.invocation(p)
	if err != nil {
		return &usageError{err}
	}
	client, err := cmd.connect(p, "run")
	if err != nil {
		return err
	}
	defer client.nc.Close()
	msg, err := client.send(ctx, what)
	if err != nil || msg == nil {
		return err
	}
	return newReplyPrinter(p, cmd.JSON, cmd.SQL).print(msg)
}

// refusals passes on what NATS will not let through.
func refusals(refused chan<- error) nats.Option {
	return nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			select {
			case refused <- err:
			default:
			}
		}
	})
}

// invocation is what to run and with what.
type invocation struct {
	script string // empty: SQL
	params []param
}

func (cmd runCmd) invocation(p *process) (invocation, error) {
	switch {
	case cmd.SQL == "" && (len(cmd.Args) == 0 || strings.Contains(cmd.Args[0], "=")):
		return invocation{}, errors.New("name a script, or give --sql")
	case cmd.Job && (cmd.SQL != "" || cmd.As != ""):
		return invocation{}, errors.New("--job: a job is a script and has no caller")
	case cmd.NoWait && !cmd.Job:
		return invocation{}, errors.New("--no-wait goes with --job")
	case cmd.Timeout < 0:
		return invocation{}, errors.New("--timeout: want a positive duration")
	}
	c, args := invocation{}, cmd.Args
	if cmd.SQL == "" {
		c.script, args = args[0], args[1:]
	}
	var err error
	c.params, err = readParams(args, p.stdin)
	return c, err
}

// runClient talks to whatever serves the prefix.
type runClient struct {
	runCmd
	process *process
	nc      *nats.Conn
	refused <-chan error
	prefix  string
}

// connect makes a client for a command of that name. Its connection is to be
// closed.
func (cmd runCmd) connect(p *process, name string) (*runClient, error) {
	c, err := cmd.load(p)
	if err != nil {
		return nil, err
	}
	refused := make(chan error, 1)
	nc, err := natsconn.Once(c.NATS, "pgbridge "+name, refusals(refused))
	if err != nil {
		return nil, err
	}
	return &runClient{runCmd: cmd, process: p, nc: nc, refused: refused, prefix: c.Prefix}, nil
}

// whileAllowed returns a context that also ends when NATS refuses something:
// no answer will come then.
func (r *runClient) whileAllowed(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case err := <-r.refused:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func forbidden(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), nats.ErrPermissionViolation)
}

func (r *runClient) say(format string, args ...any) {
	fmt.Fprintf(r.process.stderr, "pgbridge: "+format+"\n", args...)
}

// subject is where a verb is asked for.
func (r *runClient) subject(tokens ...string) string {
	all := []string{r.prefix}
	if r.As != "" {
		all = append(all, "as", subject.Token(r.As))
	}
	for _, t := range tokens {
		if t != "" {
			all = append(all, t)
		}
	}
	return strings.Join(all, ".")
}

// send returns the reply; nil where none was wanted.
func (r *runClient) send(ctx context.Context, c invocation) (*nats.Msg, error) {
	body, err := r.body(ctx, c)
	if err != nil {
		return nil, err
	}
	if r.Job {
		return r.sendJob(ctx, "run", c.script, body)
	}
	msg := nats.NewMsg(r.subject("run", c.script))
	msg.Data = body
	if r.ID != "" {
		msg.Header.Set(nats.MsgIdHdr, r.ID)
	}
	return r.request(ctx, msg, r.patience())
}

const (
	// longestRun is the time limit that serve has by default.
	longestRun = 5 * time.Minute
	// waySlack is for the way there and back.
	waySlack = 10 * time.Second
)

// patience is how long an answer is waited for.
func (r *runClient) patience() time.Duration {
	if r.Timeout > 0 {
		return r.Timeout + waySlack
	}
	return longestRun + waySlack
}

func (r *runClient) request(ctx context.Context, msg *nats.Msg, limit time.Duration) (*nats.Msg, error) {
	ctx, done := r.whileAllowed(ctx)
	defer done()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	reply, err := r.nc.RequestMsgWithContext(limited, msg)
	switch {
	case err == nil:
		return reply, nil
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("request %s: nobody serves it at %s", msg.Subject, r.nc.ConnectedUrlRedacted())
	case forbidden(ctx):
		return nil, fmt.Errorf("request %s: NATS forbids it: %w", msg.Subject, nats.ErrPermissionViolation)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("request %s: interrupted; whether it was done is not known", msg.Subject)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("request %s: no answer within %s; whether it was done is not known", msg.Subject, limit)
	}
	return nil, fmt.Errorf("request %s: %w", msg.Subject, err)
}

// runRequest is the body of a request. Its encoding is the same each time, so
// that a message id can be sent again.
type runRequest struct {
	SQL     string                     `json:"sql,omitempty"`
	Params  map[string]json.RawMessage `json:"params,omitempty"`
	Timeout int64                      `json:"timeout_ms,omitempty"`
}

func (r *runClient) body(ctx context.Context, c invocation) ([]byte, error) {
	types, err := r.types(ctx, c)
	if err != nil {
		return nil, err
	}
	request := runRequest{SQL: r.SQL, Params: map[string]json.RawMessage{}}
	if r.Timeout > 0 {
		request.Timeout = max(1, r.Timeout.Milliseconds())
	}
	for _, p := range c.params {
		if request.Params[p.name], err = p.encode(types[p.name]); err != nil {
			return nil, err
		}
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return body, nil
}

// types asks for the types of a script's parameters where a value may be meant
// as JSON. A user who may run it need not be allowed to ask: then it is text.
func (r *runClient) types(ctx context.Context, c invocation) (map[string][]string, error) {
	if c.script == "" || !anyLikeJSON(c.params) {
		return nil, nil
	}
	reply, err := r.request(ctx, nats.NewMsg(r.subject("describe", c.script)), answerLimit)
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		return nil, nil
	case err != nil:
		return nil, err
	}
	var described struct {
		Parameters []struct {
			Name  string
			Types []string
		}
	}
	if err := json.Unmarshal(reply.Data, &described); err != nil {
		return nil, fmt.Errorf("read the description of %s: %w", c.script, err)
	}
	types := map[string][]string{}
	for _, p := range described.Parameters {
		types[p.Name] = p.Types
	}
	return types, nil // none where the answer was an error: so will be the run's
}
