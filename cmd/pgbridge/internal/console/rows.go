package console

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/pgbridge/pgbridge/client"
)

// flushEvery is how long a row may wait for more to be written with it.
const flushEvery = 100 * time.Millisecond

// NDJSONWriter writes one JSON object a line.
type NDJSONWriter struct {
	out     *bufio.Writer
	names   [][]byte // encoded; nil where a later column has the same name
	line    bytes.Buffer
	flushed time.Time
}

// NewNDJSON writes one JSON object a line. Of columns with the same name the
// last one is written.
func NewNDJSON(out io.Writer, columns []client.Column) (*NDJSONWriter, error) {
	w := &NDJSONWriter{out: bufio.NewWriter(out), names: make([][]byte, len(columns))}
	last := map[string]int{}
	for i, c := range columns {
		last[c.Name] = i
	}
	for i, c := range columns {
		if last[c.Name] != i {
			continue
		}
		var err error
		if w.names[i], err = json.Marshal(c.Name); err != nil {
			return nil, fmt.Errorf("encode a column's name: %w", err)
		}
	}
	return w, nil
}

// Write writes one row; an earlier one may wait for the next.
func (w *NDJSONWriter) Write(row client.Row) error {
	w.line.Reset()
	separator := byte('{')
	for i, value := range row {
		if i >= len(w.names) || w.names[i] == nil {
			continue
		}
		w.line.WriteByte(separator)
		w.line.Write(w.names[i])
		w.line.WriteByte(':')
		if err := json.Compact(&w.line, value); err != nil { // a json value may hold line ends
			return fmt.Errorf("read a row: %w", err)
		}
		separator = ','
	}
	if separator == '{' {
		w.line.WriteByte('{')
	}
	w.line.WriteString("}\n")
	if _, err := w.out.Write(w.line.Bytes()); err != nil {
		return err
	}
	if time.Since(w.flushed) < flushEvery {
		return nil
	}
	return w.Flush()
}

// Flush writes what waits.
func (w *NDJSONWriter) Flush() error {
	w.flushed = time.Now()
	return w.out.Flush()
}

// CSVWriter writes CSV.
type CSVWriter struct {
	csv     *csv.Writer
	texts   []string
	flushed time.Time
}

// NewCSV writes CSV with a header line, in which NULL is empty.
func NewCSV(out io.Writer, columns []client.Column) (*CSVWriter, error) {
	w := &CSVWriter{csv: csv.NewWriter(out), texts: make([]string, len(columns))}
	for i, c := range columns {
		w.texts[i] = c.Name
	}
	if err := w.csv.Write(w.texts); err != nil {
		return nil, err
	}
	return w, w.Flush()
}

// Write writes one row; an earlier one may wait for the next.
func (w *CSVWriter) Write(row client.Row) error {
	if len(row) != len(w.texts) {
		return fmt.Errorf("read a row: it has %d values, and there are %d columns", len(row), len(w.texts))
	}
	for i, value := range row {
		w.texts[i] = csvText(value)
	}
	if err := w.csv.Write(w.texts); err != nil {
		return err
	}
	if time.Since(w.flushed) < flushEvery {
		return nil
	}
	return w.Flush()
}

// Flush writes what waits.
func (w *CSVWriter) Flush() error {
	w.flushed = time.Now()
	w.csv.Flush()
	return w.csv.Error()
}

// csvText is a value without JSON's quotes, and nothing for NULL.
func csvText(value json.RawMessage) string {
	var text string
	switch {
	case string(value) == "null":
		return ""
	case len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &text) == nil:
		return text
	}
	return string(value)
}
