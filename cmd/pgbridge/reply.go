package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// replyPrinter prints the reply to a run: results to one writer, all else to
// another.
type replyPrinter struct {
	out, notes io.Writer
	json       bool
	sql        string // that was run; empty: a script
}

func newReplyPrinter(p *process, asJSON bool, sql string) *replyPrinter {
	return &replyPrinter{out: p.stdout, notes: p.stderr, json: asJSON || !isTerminal(p.stdout), sql: sql}
}

// runReply is a reply, good or not.
type runReply struct {
	Results []runResult    `json:"results"`
	Notices []runNotice    `json:"notices"`
	Error   *service.Error `json:"error"`
}

type runNotice struct{ Severity, Message, Detail, Hint string }

// print returns a silentError where the reply is an error.
func (p *replyPrinter) print(msg *nats.Msg) error {
	var reply runReply
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return fmt.Errorf("read the reply on %s: %w", msg.Subject, err)
	}
	if msg.Header.Get("Pgbridge-Replayed") != "" {
		p.note("pgbridge: this was done before; its reply then was:")
	}
	p.printNotices(reply.Notices)
	if p.json {
		if _, err := fmt.Fprintf(p.out, "%s\n", msg.Data); err != nil {
			return fmt.Errorf("print the reply: %w", err)
		}
	}
	switch {
	case reply.Error != nil:
		p.printError(reply.Error)
		return &silentError{exitFailed}
	case p.json:
		return nil
	}
	return p.printTables(reply.Results)
}

func (p *replyPrinter) printTables(results []runResult) error {
	if len(results) == 0 {
		return errors.New("read the reply: it holds neither results nor an error")
	}
	for i, r := range results {
		if i > 0 && (r.Columns != nil || results[i-1].Columns != nil) {
			fmt.Fprintln(p.out)
		}
		if err := r.print(p.out); err != nil {
			return fmt.Errorf("print the reply: %w", err)
		}
	}
	return nil
}

// note prints one line for the person at the terminal.
func (p *replyPrinter) note(format string, args ...any) {
	fmt.Fprintln(p.notes, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// labelled prints text of the server's, line by line.
func (p *replyPrinter) labelled(label, text string) {
	for line := range strings.Lines(text) {
		p.note("%s%s", label, printable(strings.TrimRight(line, "\r\n")))
		label = strings.Repeat(" ", utf8.RuneCountInString(label))
	}
}

func (p *replyPrinter) printNotices(notices []runNotice) {
	for _, n := range notices {
		p.labelled(printable(n.Severity)+": ", n.Message)
		p.labelled("  detail: ", n.Detail)
		p.labelled("  hint: ", n.Hint)
	}
}

func (p *replyPrinter) printError(e *service.Error) {
	p.labelled("pgbridge: "+printable(string(e.Code))+": ", e.Message)
	p.labelled("  ", place(e))
	p.point(e)
	for _, field := range []struct{ name, value string }{
		{"SQLSTATE", e.SQLState}, {"detail", e.Detail}, {"hint", e.Hint}, {"where", e.Where},
		{"table", e.Table}, {"column", e.Column}, {"constraint", e.Constraint},
	} {
		p.labelled("  "+field.name+": ", field.value)
	}
	if e.Retryable {
		p.note("  the same request may succeed later")
	}
}

// place says where in a script an error is.
func place(e *service.Error) string {
	var words []string
	for _, w := range []struct {
		name string
		n    int
	}{{"statement", e.Statement}, {"line", e.Line}, {"character", e.Position}} {
		if w.n > 0 {
			words = append(words, fmt.Sprintf("%s %d", w.name, w.n))
		}
	}
	return strings.Join(words, ", ")
}

// point shows the place itself, where the SQL is at hand.
func (p *replyPrinter) point(e *service.Error) {
	parsed, err := script.ParseSQL(p.sql)
	if err != nil || e.Position == 0 || e.Statement < 1 || e.Statement > len(parsed.Statements) {
		return
	}
	before := []rune(parsed.Statements[e.Statement-1].Text)
	if e.Position > len(before)+1 {
		return
	}
	before, after := before[:e.Position-1], string(before[e.Position-1:])
	line := string(before)
	line = line[strings.LastIndexByte(line, '\n')+1:]
	rest, _, _ := strings.Cut(after, "\n")
	p.note("    %s%s", printable(line), printable(rest))
	p.note("    %s^", strings.Repeat(" ", utf8.RuneCountInString(printable(line))))
}
