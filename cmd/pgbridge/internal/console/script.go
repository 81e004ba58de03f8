package console

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pgbridge/pgbridge/client"
)

// Columns writes lines of cells below each other; the last cell of a line is as
// long as it is. Nothing in them is obeyed by a terminal.
func Columns(out io.Writer, rows [][]string) error {
	for _, row := range rows {
		for i := range row {
			row[i] = Printable(row[i])
		}
	}
	widths := widthsOf(rows)
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, text := range row {
			line.WriteString(text)
			line.WriteString(strings.Repeat(" ", widths[i]-cells(text)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// FirstLine is the first line of a text.
func FirstLine(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return first
}

// Kind says what can be done with a script.
func Kind(s client.ScriptInfo) string {
	if s.Cursor {
		return string(s.Kind) + ", cursor"
	}
	return string(s.Kind)
}

// Script writes all that is known of a script, and how to call it.
func Script(out io.Writer, d *client.Description) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  (%s)\n", Printable(d.Info.Name), Printable(Kind(d.Info)))
	for line := range strings.Lines(d.Info.Description) {
		fmt.Fprintf(&b, "  %s\n", Printable(strings.TrimSpace(line)))
	}
	for _, s := range settings(d.Settings) {
		fmt.Fprintf(&b, "  %s\n", s)
	}
	section(&b, "takes", parameters(d))
	section(&b, "returns", columnLines(d.Columns))
	fmt.Fprintf(&b, "\n  %s\n", Printable(call(d)))
	_, err := io.WriteString(out, b.String())
	return err
}

func section(b *strings.Builder, title string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, row := range rows {
		row[0] = "  " + row[0]
	}
	_ = Columns(b, rows) // a builder takes everything
}

func parameters(d *client.Description) (rows [][]string) {
	for _, p := range d.Parameters {
		types := strings.Join(p.Types, " or ")
		if types == "" {
			types = "known after a run"
		}
		rows = append(rows, []string{p.Name, types})
	}
	return rows
}

func columnLines(columns []client.Column) (rows [][]string) {
	for _, c := range columns {
		rows = append(rows, []string{c.Name, c.Type})
	}
	return rows
}

func settings(s client.Settings) (lines []string) {
	add := func(name, value string) {
		if value != "" {
			lines = append(lines, name+": "+Printable(value))
		}
	}
	add("isolation", s.Isolation)
	if s.ReadOnly != nil {
		add("read_only", strconv.FormatBool(*s.ReadOnly))
	}
	if s.Deferrable != nil {
		add("deferrable", strconv.FormatBool(*s.Deferrable))
	}
	if s.Timeout > 0 {
		add("timeout", s.Timeout.String())
	}
	if s.Retries != nil {
		add("retries", strconv.Itoa(*s.Retries))
	}
	add("role", s.Role)
	if s.Concurrency > 0 {
		add("concurrency", strconv.Itoa(s.Concurrency))
	}
	add("bucket", strings.Join(s.Buckets, " "))
	return lines
}

// call is what a person types to use a script.
func call(d *client.Description) string {
	verb, after := "run", ""
	switch d.Info.Kind {
	case client.KindCopyIn:
		verb, after = "copy", " FILE"
	case client.KindCopyOut:
		verb, after = "copy", " -o FILE"
	}
	words := "pgbridge " + verb + " " + ShellWord(d.Info.Name)
	for _, p := range d.Parameters {
		words += " " + ShellWord(p.Name) + "=…"
	}
	return words + after
}
