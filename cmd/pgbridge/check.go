package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

type checkCmd struct {
	configFlags
	Offline bool `help:"Look at the configuration and the scripts only, at no server."`
}

// Help shows examples.
func (checkCmd) Help() string {
	return `Exits with 2 when the configuration is faulty and with 1 when a script is, or a
server does not allow what is asked for. PostgreSQL prepares the scripts and runs
none. Nothing is left on the servers and no event is sent.

Examples:

    pgbridge check -c pgbridge.yaml
    pgbridge check -c pgbridge.yaml --offline
    pgbridge check --postgres postgres://app@localhost/app --nats nats://localhost:4222`
}

// checkLimit bounds each server's checks together.
const checkLimit = 30 * time.Second

// Run prints what works and what does not.
func (cmd checkCmd) Run(ctx context.Context, p *process) error {
	src := cmd.sources(p)
	c, err := src.load()
	if err != nil {
		return err
	}
	r := &report{out: p.stdout}
	r.configuration(c)
	if cmd.Offline {
		parseScripts(c, r)
	} else {
		checkPostgres(ctx, c, r)
		prepareScripts(ctx, c, r)
		checkNATS(ctx, c, r)
	}
	if r.failed > 0 {
		fmt.Fprintf(p.stderr, "pgbridge: %d of %d checks failed\n", r.failed, r.count)
		return &silentError{exitFailed}
	}
	return nil
}

// report prints one line for each check as it is made.
type report struct {
	out    io.Writer
	count  int
	failed int
}

func (r *report) heading(text string) { fmt.Fprintf(r.out, "%s\n", text) }

func (r *report) line(verdict, what, detail string) {
	r.count++
	fmt.Fprintln(r.out, strings.TrimRight(fmt.Sprintf("  %-5s %-24s %s", verdict, what, detail), " "))
}

func (r *report) ok(what, format string, args ...any) {
	r.line("ok", what, fmt.Sprintf(format, args...))
}

// warn is for what works, but perhaps not as meant.
func (r *report) warn(what, format string, args ...any) {
	r.line("warn", what, fmt.Sprintf(format, args...))
}

func (r *report) fail(what, format string, args ...any) {
	r.failed++
	r.line("FAIL", what, fmt.Sprintf(format, args...))
}

// verdict is ok without an error.
func (r *report) verdict(what, good string, err error) bool {
	if err != nil {
		r.fail(what, "%s", firstLine(err))
		return false
	}
	r.ok(what, "%s", good)
	return true
}

// configuration lists what was set, with secrets masked, and from where.
func (r *report) configuration(c *config) {
	r.heading("Configuration: ok")
	for _, s := range c.settings() {
		if origin := c.origins[s.key]; origin != "" {
			fmt.Fprintf(r.out, "        %-32s %s  (%s)\n", s.key, s.get(), origin)
		}
	}
	for _, name := range c.channelNames() {
		fmt.Fprintf(r.out, "        %-32s %s\n", "channels."+name, describeChannel(c, name))
	}
}

func describeChannel(c *config, name string) string {
	ch := c.Channels[name]
	event, _ := c.subjectsOf(name)
	words := []string{"→ " + event}
	if ch.Envelope != "" {
		words = append(words, "envelope "+string(ch.Envelope))
	}
	if ch.Delivery != "" {
		words = append(words, "delivery "+string(ch.Delivery))
	}
	if ch.Notify {
		words = append(words, "notify")
	}
	return strings.Join(words, ", ")
}

func firstLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), " ")
}
