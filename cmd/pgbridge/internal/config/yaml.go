package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v2"

	"github.com/pgbridge/pgbridge/internal/files"
)

// maxFileBytes is more than a Kubernetes ConfigMap can hold.
const maxFileBytes = 1 << 20

// node is one value of a YAML file, with every scalar as it was written:
// "off", "0123" and "1e3" stay text until a setting says what they mean.
type node struct {
	kind   nodeKind
	text   string
	items  []node
	fields map[string]node
}

type nodeKind int

const (
	absent nodeKind = iota // null, or nothing after the colon
	scalar
	list
	mapping
)

// skip accepts any value, to find out what kind of value holds it.
type skip struct{}

func (*skip) UnmarshalYAML(func(any) error) error { return nil }

// UnmarshalYAML implements yaml.Unmarshaler.
func (n *node) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&n.text) == nil {
		n.kind = scalar
		return nil
	}
	var items []skip
	if unmarshal(&items) == nil {
		n.kind = list
		return unmarshal(&n.items)
	}
	n.kind = mapping
	return unmarshal(&n.fields)
}

// readAgain returns the bytes of a file that may be another one by now than it was: it
// waits for no pipe's other end.
func readAgain(path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readFrom(f, path)
}

// readFile returns the file's bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	return readFrom(f, path)
}

func readFrom(f *os.File, path string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return data, nil
}

// parseYAML returns the one document of a file, and every fault of its form.
func parseYAML(data []byte) (node, []error) {
	if len(data) > maxFileBytes {
		return node{}, []error{fmt.Errorf("the file is larger than %d bytes", maxFileBytes)}
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.SetStrict(true)
	var root, more node
	err := d.Decode(&root)
	switch {
	case errors.Is(err, io.EOF) || err == nil && root.kind == absent:
		return node{}, []error{errors.New("the file is empty")}
	case err != nil:
		return root, yamlFaults(data, err)
	case root.kind != mapping:
		return node{}, []error{errors.New("want a mapping of settings, as in \"prefix: pgbridge\"")}
	case !errors.Is(d.Decode(&more), io.EOF):
		return root, []error{errors.New("the file holds more than one document (a line ---)")}
	}
	return root, nil
}

// yamlFaults takes the parser's error apart: it may list several.
func yamlFaults(data []byte, err error) []error {
	var several *yaml.TypeError
	if !errors.As(err, &several) {
		text := hideValue(strings.TrimPrefix(err.Error(), "yaml: "))
		if line := tabbedLine(data); line > 0 && strings.Contains(text, "found character that cannot start any token") {
			text += fmt.Sprintf(" (line %d is indented with a tab: YAML wants spaces)", line)
		}
		return []error{errors.New(text)}
	}
	var faults []error
	for _, text := range several.Errors {
		faults = append(faults, errors.New(text))
	}
	return faults
}

// hideValue leaves out what the parser quotes of a value that begins with * or !!, for it
// may be a password.
func hideValue(text string) string {
	for _, quoted := range [][3]string{{"unknown anchor '", "' referenced", " (a value that begins with * wants quotes)"}, {"anchor '", "' value contains itself", ""}, {"cannot decode !!str `", "` as a ", ""}} {
		if rest, found := strings.CutPrefix(text, quoted[0]); found {
			_, rest, _ = strings.Cut(rest, quoted[1])
			return quoted[0] + mask + quoted[1] + rest + quoted[2]
		}
	}
	return text
}

// tabbedLine is the number of the first line that is indented with a tab.
func tabbedLine(data []byte) int {
	for i, line := range bytes.Split(data, []byte("\n")) {
		rest := bytes.TrimLeft(line, " ")
		if bytes.HasPrefix(rest, []byte("\t")) {
			return i + 1
		}
	}
	return 0
}
