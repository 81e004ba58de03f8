package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// runResult is the result of one statement.
type runResult struct {
	Command string              `json:"command"`
	Columns []runColumn         `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows"`
}

type runColumn struct{ Name, Type string }

// print writes a table, or the command where there are no columns.
func (r runResult) print(out io.Writer) error {
	if r.Columns == nil {
		_, err := fmt.Fprintln(out, printable(r.Command))
		return err
	}
	if len(r.Columns) == 0 {
		_, err := fmt.Fprintf(out, "(%s)\n", rowCount(len(r.Rows)))
		return err
	}
	cells := [][]string{r.titles()}
	for _, row := range r.Rows {
		line := make([]string, len(row))
		for i, value := range row {
			line[i] = cell(value)
		}
		cells = append(cells, line)
	}
	widths := widthsOf(cells)
	var b strings.Builder
	for i, line := range cells {
		r.line(&b, line, widths)
		if i == 0 {
			ruler(&b, widths)
		}
	}
	fmt.Fprintf(&b, "(%s)\n", rowCount(len(r.Rows)))
	_, err := io.WriteString(out, b.String())
	return err
}

func rowCount(n int) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

func (r runResult) titles() []string {
	titles := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		titles[i] = printable(c.Name)
	}
	return titles
}

// cell is a value without JSON's quotes, and NULL as such.
func cell(value json.RawMessage) string {
	var text string
	switch {
	case string(value) == "null":
		return "NULL"
	case len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &text) == nil:
		return printable(text)
	}
	return printable(string(value))
}

func widthsOf(lines [][]string) []int {
	var widths []int
	for _, line := range lines {
		for i, text := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	return widths
}

// line writes one row, numbers to the right.
func (r runResult) line(b *strings.Builder, texts []string, widths []int) {
	var row strings.Builder
	for i, text := range texts {
		if i > 0 {
			row.WriteString(" | ")
		}
		gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
		if i < len(r.Columns) && isNumber(r.Columns[i].Type) {
			row.WriteString(gap + text)
		} else {
			row.WriteString(text + gap)
		}
	}
	b.WriteString(" " + strings.TrimRight(row.String(), " ") + "\n")
}

func isNumber(typ string) bool {
	switch typ {
	case "int2", "int4", "int8", "float4", "float8", "numeric", "oid", "money":
		return true
	}
	return false
}

func ruler(b *strings.Builder, widths []int) {
	for i, w := range widths {
		if i > 0 {
			b.WriteByte('+')
		}
		b.WriteString(strings.Repeat("-", w+2))
	}
	b.WriteByte('\n')
}
