package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
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
    pgbridge cursor orders.search customer=Ada | jq .total
    pgbridge cursor orders.all --csv > orders.csv
    pgbridge cursor --sql 'SELECT * FROM orders WHERE total > @least' least=100`
}

// Run opens the cursor and shows or writes what it holds.
func (cmd cursorCmd) Run(ctx context.Context, p *process) error {
	what, err := runCmd{Args: cmd.Args, SQL: cmd.SQL, Timeout: cmd.Timeout}.invocation(p)
	if err == nil && cmd.CSV && cmd.JSON {
		err = errors.New("--csv goes without --json")
	}
	if err != nil {
		return &usageError{err}
	}
	r, err := cmd.connect(p, "cursor", cmd.As)
	if err != nil {
		return err
	}
	defer r.close()
	return cmd.report(r, cmd.read(ctx, r, what))
}

func (cmd cursorCmd) read(ctx context.Context, r *remote, what invocation) error {
	script, err := r.script(ctx, what)
	if err != nil {
		return err
	}
	ctx, done := r.whileAllowed(ctx)
	defer done()
	terminal := console.OpenTerminal(r.process.stdin, r.process.stdout)
	if cmd.CSV || cmd.JSON || terminal == nil {
		return cmd.write(ctx, r, script)
	}
	cursor, err := r.Cursor(ctx, script, client.CursorOptions{PageRows: terminal.Screen().PageRows(), Scroll: true})
	if err != nil {
		return err
	}
	defer giveBack(ctx, cursor)
	defer terminal.Close()
	return terminal.Screen().Page(ctx, cursor, terminal.Raw)
}

// giveBack frees the cursor's connection, if it still has one.
func giveBack(ctx context.Context, cursor *client.Cursor) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerLimit)
	defer cancel()
	_ = cursor.Tx().Rollback(ctx) // else its lease ends it
}

// write writes all rows.
func (cmd cursorCmd) write(ctx context.Context, r *remote, script client.Script) error {
	var bar *console.Bar
	if !console.IsTerminal(r.process.stdout) { // there the rows are what is looked at
		bar = console.StartCount(r.process.stderr, 0, "rows")
	}
	defer bar.Stop()
	cursor, err := r.Cursor(ctx, script, client.CursorOptions{})
	if err != nil {
		return err
	}
	defer giveBack(ctx, cursor)
	var to console.Rows
	if cmd.CSV {
		to, err = console.NewCSV(r.process.shown(r.process.stdout), cursor.Columns)
	} else {
		to, err = console.NewNDJSON(r.process.shown(r.process.stdout), cursor.Columns)
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	for row, err := range cursor.Stream(ctx) {
		if err == nil {
			bar.Add(1)
			err = to.Write(row)
		}
		if err != nil {
			return errors.Join(err, to.Flush())
		}
	}
	return to.Flush()
}

// report prints an error of the server's in full.
func (cmd cursorCmd) report(r *remote, err error) error {
	failure, ok := client.AsError(err)
	if !ok {
		return err
	}
	(&console.Replies{Notes: r.process.stderr, SQL: cmd.SQL}).PrintError(failure)
	if failure.Row > 0 {
		r.say("the rows before it came, those behind it did not")
	}
	return &silentError{exitFailed}
}
