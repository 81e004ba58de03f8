package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
)

// ndjsonWriter writes the rows of a chunk, a JSON array, one a line.
type ndjsonWriter struct {
	out  io.Writer
	line bytes.Buffer
}

func (w *ndjsonWriter) Write(chunk []byte) (int, error) {
	var rows []json.RawMessage
	if err := json.Unmarshal(chunk, &rows); err != nil {
		return 0, fmt.Errorf("read a chunk: %w", err)
	}
	w.line.Reset()
	for _, row := range rows {
		if err := json.Compact(&w.line, row); err != nil { // a json value may hold line ends
			return 0, fmt.Errorf("read a row: %w", err)
		}
		w.line.WriteByte('\n')
	}
	if _, err := w.out.Write(w.line.Bytes()); err != nil {
		return 0, err
	}
	return len(chunk), nil
}

// csvWriter writes the rows of a chunk as CSV.
type csvWriter struct {
	csv   *csv.Writer
	texts []string
}

// newCSVWriter writes the header line.
func newCSVWriter(out io.Writer, columns []runColumn) (*csvWriter, error) {
	w := &csvWriter{csv: csv.NewWriter(out), texts: make([]string, len(columns))}
	for i, c := range columns {
		w.texts[i] = c.Name
	}
	if err := w.csv.Write(w.texts); err != nil {
		return nil, err
	}
	w.csv.Flush()
	return w, w.csv.Error()
}

func (w *csvWriter) Write(chunk []byte) (int, error) {
	var rows [][]json.RawMessage
	if err := json.Unmarshal(chunk, &rows); err != nil {
		return 0, fmt.Errorf("read a chunk: %w", err)
	}
	for _, row := range rows {
		for i, value := range row {
			w.texts[i] = csvText(value)
		}
		if err := w.csv.Write(w.texts); err != nil {
			return 0, err
		}
	}
	w.csv.Flush()
	return len(chunk), w.csv.Error()
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
