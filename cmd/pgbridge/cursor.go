package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
)

type cursorCmd struct {
	clientFlags
	Args    []string      `arg:"" optional:"" placeholder:"SCRIPT|NAME=VALUE" help:"The script, then its parameters as for run."`
	SQL     string        `name:"sql" placeholder:"SQL" help:"Read this query instead of a script, where the configuration allows it."`
	As      string        `placeholder:"CALLER" help:"Be this caller."`
	Timeout time.Duration `placeholder:"DURATION" help:"Time limit of each request; the script's and the configuration's hold too."`
	CSV     bool          `name:"csv" help:"Write CSV with a header line."`
	JSON    bool          `name:"json" help:"Write one JSON object a line; so it is too where nobody looks at a terminal."`
}

// Help shows examples.
func (cursorCmd) Help() string {
	return `Reads a script's result through a cursor, whatever its size. At a terminal it
shows one page at a time: space the next, b the one before, g the first, G the
last, q leaves. Otherwise it writes all rows, one JSON object a line, or CSV, in
which NULL is empty. Exits with 1 when not all of them came.

Examples:

    pgbridge cursor orders.all
    pgbridge cursor orders.all customer=Ada | jq .total
    pgbridge cursor orders.all --csv > orders.csv
    pgbridge cursor --sql 'SELECT * FROM orders WHERE total > @least' least=100`
}

// Run opens the cursor and shows or writes what it holds.
func (cmd cursorCmd) Run(ctx context.Context, p *process) error {
	run := runCmd{clientFlags: cmd.clientFlags, Args: cmd.Args, SQL: cmd.SQL, As: cmd.As, Timeout: cmd.Timeout}
	what, err := run.invocation(p)
	if err == nil && cmd.CSV && cmd.JSON {
		err = errors.New("--csv goes without --json")
	}
	if err != nil {
		return &usageError{err}
	}
	connected, err := run.connect(p, "cursor")
	if err != nil {
		return err
	}
	defer connected.nc.Close()
	client := &cursorClient{runClient: connected, csv: cmd.CSV}
	return client.report(client.read(ctx, what, cmd.CSV || cmd.JSON))
}

// cursorClient reads one cursor.
type cursorClient struct {
	*runClient
	csv    bool
	tx     string
	cursor string
}

// cursorPage is a reply to a request about the cursor.
type cursorPage struct {
	Tx      string              `json:"tx"`
	Cursor  string              `json:"cursor"`
	Columns []runColumn         `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows"`
	Done    bool                `json:"done"`
	Error   *service.Error      `json:"error"`
	Cursors []cursorTitle       `json:"cursors"` // those that the script has opened itself
}

type cursorTitle struct {
	Cursor  string      `json:"cursor"`
	Columns []runColumn `json:"columns"`
}

func (k *cursorClient) read(ctx context.Context, what invocation, write bool) error {
	terminal := openTerminal(k.process)
	if write || terminal == nil {
		return k.stream(ctx, what)
	}
	return k.page(ctx, what, terminal)
}

// open sends the request that opens the cursor, with further fields.
func (k *cursorClient) open(ctx context.Context, what invocation, fields map[string]any) (cursorPage, error) {
	body, err := k.body(ctx, what)
	if err != nil {
		return cursorPage{}, err
	}
	all := make(map[string]any)
	if err := json.Unmarshal(body, &all); err != nil {
		return cursorPage{}, fmt.Errorf("encode the request: %w", err)
	}
	for name, value := range fields {
		all[name] = value
	}
	first, err := k.ask(ctx, k.runClient.subject("cursor", what.script), all)
	if err != nil {
		return first, err
	}
	k.tx, k.cursor = first.Tx, first.Cursor
	switch n := len(first.Cursors); {
	case n == 1:
		k.cursor, first.Columns = first.Cursors[0].Cursor, first.Cursors[0].Columns
	case first.Cursor == "":
		k.close()
		return first, fmt.Errorf("the script opens %d cursors, and this reads one", n)
	}
	return first, nil
}

// ask sends a request and returns the reply; one that is an error is returned
// as a *service.Error.
func (k *cursorClient) ask(ctx context.Context, to string, fields map[string]any) (cursorPage, error) {
	body, err := json.Marshal(fields)
	if err != nil {
		return cursorPage{}, fmt.Errorf("encode the request: %w", err)
	}
	msg := nats.NewMsg(to)
	msg.Data = body
	reply, err := k.request(ctx, msg, k.patience())
	if err != nil {
		return cursorPage{}, err
	}
	var page cursorPage
	if err := json.Unmarshal(reply.Data, &page); err != nil {
		return cursorPage{}, fmt.Errorf("read the reply to %s: %w", to, err)
	}
	if page.Error != nil {
		return page, page.Error
	}
	return page, nil
}

// verb sends a request about the open cursor.
func (k *cursorClient) verb(ctx context.Context, name string, fields map[string]any) (cursorPage, error) {
	all := map[string]any{"cursor": k.cursor}
	for field, value := range fields {
		all[field] = value
	}
	return k.ask(ctx, k.tx+"."+name, all)
}

// close gives the connection back, if the transaction still has it.
func (k *cursorClient) close() {
	_, _ = k.nc.Request(k.tx+".rollback", nil, rollbackLimit) // else its lease ends it
}

// stream writes all rows.
func (k *cursorClient) stream(ctx context.Context, what invocation) error {
	form := "object"
	if k.csv {
		form = "array"
	}
	first, err := k.open(ctx, what, map[string]any{"count": 0, "rows": form})
	if err != nil {
		return err
	}
	var to io.Writer = &ndjsonWriter{out: k.process.stdout}
	if k.csv {
		if to, err = newCSVWriter(k.process.stdout, first.Columns); err != nil {
			k.close()
			return fmt.Errorf("write: %w", err)
		}
	}
	if err := k.receive(ctx, first, to); err != nil {
		k.close()
		return err
	}
	return nil
}

// receive takes the stream's chunks.
func (k *cursorClient) receive(ctx context.Context, first cursorPage, to io.Writer) error {
	ctx, done := k.whileAllowed(ctx)
	defer done()
	messages := make(chan *nats.Msg, 64<<10)
	link := &copyLink{nc: k.nc, inbox: k.nc.NewInbox(), messages: messages}
	sub, err := k.nc.ChanSubscribe(link.inbox+".>", messages)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	request, err := json.Marshal(map[string]string{"cursor": k.cursor})
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	begun, err := link.open(ctx, k.tx+".stream", request, k.patience())
	if err != nil {
		return err
	}
	if failure := errorIn(begun); failure != nil {
		return failure
	}
	link.opening.Tx = first.Tx
	_, err = link.download(ctx, to, func(int) {})
	return err
}

// report prints an error of the server's in full.
func (k *cursorClient) report(err error) error {
	var told *copyError
	if errors.As(err, &told) && told.failure != nil {
		err = told.failure
	}
	var failure *service.Error
	if !errors.As(err, &failure) {
		return err
	}
	(&replyPrinter{notes: k.process.stderr, sql: k.SQL}).printError(failure)
	if failure.Row > 0 {
		k.say("the rows before it came, those behind it did not")
	}
	return &silentError{exitFailed}
}
