package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/script"
)

// Form is how replies are printed.
type Form int

// The forms.
const (
	Tables Form = iota // for people
	Raw                // a reply as it is, which is JSON
	CSV                // the rows, with a header line for each result
	NDJSON             // the rows, each a JSON object in a line
)

// Replies prints the replies to runs: results to one writer, all else to another.
type Replies struct {
	Out, Notes io.Writer
	Form       Form   // of the replies
	Width      int    // of the terminal; 0: as wide as they are
	SQL        string // that was run; empty: a script
}

// Print writes a reply.
func (p *Replies) Print(r *client.Reply) error {
	if r.Replayed {
		p.note("pgbridge: this was done before; its reply then was:")
	}
	p.PrintNotices(r.Notices)
	switch p.Form {
	case Tables:
		return p.printTables(r.Results)
	case CSV, NDJSON:
		return p.printRows(r.Results)
	}
	if _, err := fmt.Fprintf(p.Out, "%s\n", r.Body); err != nil {
		return fmt.Errorf("print the reply: %w", err)
	}
	return nil
}

func (p *Replies) printTables(results []client.Result) error {
	if len(results) == 0 {
		return errors.New("read the reply: it holds neither results nor an error")
	}
	for i, r := range results {
		if i > 0 && (r.Columns != nil || results[i-1].Columns != nil) {
			fmt.Fprintln(p.Out)
		}
		if err := Table(p.Out, r, p.Width); err != nil {
			return fmt.Errorf("print the reply: %w", err)
		}
	}
	return nil
}

// Rows writes rows in some form.
type Rows interface {
	Write(client.Row) error
	Flush() error
}

// printRows prints the rows of those results that have columns; of CSV an empty line
// is between two of them.
func (p *Replies) printRows(results []client.Result) error {
	first := true
	for _, r := range results {
		if r.Columns == nil {
			continue
		}
		if !first && p.Form == CSV {
			fmt.Fprintln(p.Out)
		}
		first = false
		if err := p.writeRows(r); err != nil {
			return fmt.Errorf("print the rows: %w", err)
		}
	}
	return nil
}

// PrintRows prints rows that come without a reply: as tables do or, where replies are
// printed as they are, as JSON objects.
func (p *Replies) PrintRows(columns []client.Column, rows []client.Row) error {
	r := client.Result{Columns: columns, Rows: rows}
	if p.Form == Tables {
		return Table(p.Out, r, p.Width)
	}
	return p.writeRows(r)
}

func (p *Replies) writeRows(r client.Result) (err error) {
	var to Rows
	if p.Form == CSV {
		to, err = NewCSV(p.Out, r.Columns)
	} else {
		to, err = NewNDJSON(p.Out, r.Columns)
	}
	if err != nil {
		return err
	}
	for _, row := range r.Rows {
		if err := to.Write(row); err != nil {
			return err
		}
	}
	return to.Flush()
}

// note prints one line for the person at the terminal.
func (p *Replies) note(format string, args ...any) {
	fmt.Fprintln(p.Notes, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// labelled prints text of the server's, line by line.
func (p *Replies) labelled(label, text string) {
	for line := range strings.Lines(text) {
		p.note("%s%s", label, Printable(strings.TrimRight(line, "\r\n")))
		label = strings.Repeat(" ", utf8.RuneCountInString(label))
	}
}

// PrintNotices writes what PostgreSQL said besides.
func (p *Replies) PrintNotices(notices []client.Notice) {
	for _, n := range notices {
		p.labelled(Printable(n.Severity)+": ", n.Message)
		p.labelled("  detail: ", n.Detail)
		p.labelled("  hint: ", n.Hint)
	}
}

// PrintError writes what pgbridge refused, in full and, where replies are printed
// as they are, that too.
func (p *Replies) PrintError(e *client.Error) {
	if p.Form == Raw && p.Out != nil {
		body := map[string]*client.Error{"error": e}
		if data, err := json.Marshal(body); err == nil { // it came as JSON
			fmt.Fprintf(p.Out, "%s\n", data)
		}
	}
	p.labelled("pgbridge: "+Printable(string(e.Code))+": ", e.Message)
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
func place(e *client.Error) string {
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
func (p *Replies) point(e *client.Error) {
	parsed, err := script.ParseSQL(p.SQL)
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
	p.note("    %s%s", Printable(line), Printable(rest))
	p.note("    %s^", strings.Repeat(" ", utf8.RuneCountInString(Printable(line))))
}
