package main

import (
	"context"
	"fmt"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/client/operate"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/typegen"
)

type describeCmd struct {
	clientFlags
	Script string `arg:"" optional:"" help:"The script; default: all of them, in a line each."`
	JSON   bool   `name:"json" help:"Print JSON."`
	Types  string `enum:",typescript,go,jsonschema" default:"" placeholder:"LANGUAGE" help:"Write the script's types, or those of all scripts: typescript, go or jsonschema."`
	// Package is for Go alone.
	Package string `default:"scripts" help:"The name of the package, for --types go."`
}

// Help shows examples.
func (describeCmd) Help() string {
	return `Shows what a script is for, what it takes and what it returns, as PostgreSQL
describes it, and how it is called.

Examples:

    pgbridge describe
    pgbridge describe transfer
    pgbridge describe orders.search --json
    pgbridge describe --types typescript > scripts.ts`
}

type lsCmd struct {
	clientFlags
	JSON bool `name:"json" help:"Print JSON."`
}

// Help shows examples.
func (lsCmd) Help() string {
	return `Lists the scripts that the running pgbridge serves and the channels that it listens
to. Where it may not be asked for channels, those of the file are listed.

Examples:

    pgbridge ls
    pgbridge ls -c pgbridge.yaml
    pgbridge ls --json`
}

// Run lists.
func (cmd lsCmd) Run(ctx context.Context, p *process) error {
	return cmd.inspect(ctx, p, "ls", func(ctx context.Context, r *remote) error {
		scripts, err := r.Scripts(ctx)
		if err != nil {
			return err
		}
		channels := r.channels(ctx)
		if cmd.JSON {
			return printJSON(p, console.Catalog{Scripts: console.Listed(scripts), Channels: channels})
		}
		if err := printScripts(p, scripts); err != nil {
			return err
		}
		if len(channels) == 0 {
			return nil
		}
		rows := [][]string{{"CHANNEL", "EVENTS", "DELIVERY"}}
		for _, c := range channels {
			rows = append(rows, []string{c.Name, c.Subject, c.Delivery})
		}
		fmt.Fprintln(p.stdout)
		return console.Columns(p.stdout, rows)
	})
}

// Run describes.
func (cmd describeCmd) Run(ctx context.Context, p *process) error {
	if cmd.Types != "" {
		w := typeWriter{typegen.Language(cmd.Types), cmd.Package, cmd.Script}
		return cmd.ask(ctx, p, "describe", func(ctx context.Context, r *remote) error { return w.write(ctx, p, r) })
	}
	return cmd.inspect(ctx, p, "describe", func(ctx context.Context, r *remote) error {
		if cmd.Script == "" {
			scripts, err := r.Scripts(ctx)
			switch {
			case err != nil:
				return err
			case cmd.JSON:
				return printJSON(p, console.Listed(scripts))
			}
			return printScripts(p, scripts)
		}
		d, err := r.Describe(ctx, cmd.Script)
		switch {
		case err != nil:
			return err
		case cmd.JSON:
			return printJSON(p, console.Described(d))
		}
		return console.Script(p.stdout, d)
	})
}

// inspect asks pgbridge something that it answers at once.
func (f clientFlags) inspect(ctx context.Context, p *process, name string, ask func(context.Context, *remote) error) error {
	return f.ask(ctx, p, name, func(ctx context.Context, r *remote) error {
		ctx, cancel := context.WithTimeout(ctx, 2*answerLimit)
		defer cancel()
		return ask(ctx, r)
	})
}

// ask does so for as long as it takes.
func (f clientFlags) ask(ctx context.Context, p *process, name string, ask func(context.Context, *remote) error) error {
	r, err := f.connect(p, name, "")
	if err != nil {
		return err
	}
	defer r.close()
	ctx, done := r.whileDescribed(ctx)
	defer done()
	err = ask(ctx, r)
	if failure, ok := client.AsError(err); ok {
		(&console.Replies{Notes: p.stderr}).PrintError(failure)
		return &silentError{exitFailed}
	}
	return err
}

func printScripts(p *process, scripts []client.ScriptInfo) error {
	rows := [][]string{{"SCRIPT", "KIND", "DESCRIPTION"}}
	for _, s := range scripts {
		rows = append(rows, []string{s.Name, console.Kind(s), console.FirstLine(s.Description)})
	}
	return console.Columns(p.stdout, rows)
}

// channels are those of the running pgbridge or, where that does not tell, those of
// the file, if there is one.
func (r *remote) channels(ctx context.Context) []console.ListedChannel {
	running, err := r.running(ctx)
	if err != nil {
		return r.configured()
	}
	var all []console.ListedChannel
	for _, c := range running {
		all = append(all, console.ListedChannel{Name: c.Name, Subject: c.Subject, Delivery: c.Delivery})
	}
	return all
}

// running asks for the channels, for a user who may not be allowed to.
func (r *remote) running(ctx context.Context) ([]operate.Channel, error) {
	ctx, done := r.whileAllowed(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	return r.Operator.Channels(ctx)
}

func (r *remote) configured() []console.ListedChannel {
	var all []console.ListedChannel
	for _, name := range r.config.ChannelNames() {
		c := console.ListedChannel{Name: name, Delivery: string(r.config.Channels[name].Delivery)}
		c.Subject, _ = r.config.SubjectsOf(name)
		switch {
		case r.config.Channels[name].Durable:
			c.Delivery = "durable"
		case c.Delivery == "":
			c.Delivery = "core"
		}
		all = append(all, c)
	}
	return all
}

func printJSON(p *process, v any) error { return console.JSON(p.shown(p.stdout), v) }
