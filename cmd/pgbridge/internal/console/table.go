package console

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/pgbridge/pgbridge/client"
)

// Table writes a statement's result: a table, or the command where there are no
// columns. Where it would be wider than width, the widest columns are cut, and where
// even that does not help every row is a record of its own; 0 is any width.
func Table(out io.Writer, r client.Result, width int) error {
	if r.Columns == nil {
		_, err := fmt.Fprintln(out, Printable(r.Command))
		return err
	}
	if len(r.Columns) == 0 {
		_, err := fmt.Fprintf(out, "(%s)\n", rowCount(len(r.Rows)))
		return err
	}
	cells := [][]string{titles(r.Columns)}
	for _, row := range r.Rows {
		line := make([]string, len(row))
		for i, value := range row {
			line[i] = cell(value)
		}
		cells = append(cells, line)
	}
	var b strings.Builder
	if widths := widthsOf(cells); fit(widths, width) {
		for i, line := range cells {
			writeLine(&b, r.Columns, line, widths)
			if i == 0 {
				ruler(&b, widths)
			}
		}
	} else {
		records(&b, cells, width)
	}
	fmt.Fprintf(&b, "(%s)\n", rowCount(len(r.Rows)))
	_, err := io.WriteString(out, b.String())
	return err
}

// records writes each row as lines of a title and a value, which is not cut.
func records(b *strings.Builder, lines [][]string, width int) {
	title := 0
	for _, name := range lines[0] {
		title = max(title, cells(name))
	}
	for i, line := range lines[1:] {
		head := fmt.Sprintf("-[ row %d ]", i+1)
		b.WriteString(cut(head+strings.Repeat("-", max(0, min(width, 60)-len(head))), width) + "\n")
		for j, value := range line {
			name := ""
			if j < len(lines[0]) {
				name = lines[0][j]
			}
			b.WriteString(strings.TrimRight(name+strings.Repeat(" ", title-cells(name))+" | "+value, " ") + "\n")
		}
	}
}

func rowCount(n int) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

func titles(columns []client.Column) []string {
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = Printable(c.Name)
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
		return Printable(text)
	}
	return Printable(string(value))
}

func widthsOf(lines [][]string) []int {
	var widths []int
	for _, line := range lines {
		for i, text := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], cells(text))
		}
	}
	return widths
}

// writeLine writes one row, numbers to the right.
func writeLine(b *strings.Builder, columns []client.Column, texts []string, widths []int) {
	var row strings.Builder
	for i, text := range texts {
		if i > 0 {
			row.WriteString(" | ")
		}
		text = cut(text, widths[i])
		gap := strings.Repeat(" ", widths[i]-cells(text))
		if i < len(columns) && isNumber(columns[i].Type) {
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
