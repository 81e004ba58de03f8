// Package params reads parameters from the command line, and says what the text of
// one means for a script.
package params

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// Param is one parameter from the command line.
type Param struct {
	Name  string
	Value string
	JSON  bool // the value is JSON, and not text
}

// Read reads arguments like NAME=TEXT, NAME:=JSON, NAME=@FILE and NAME:=@FILE; the
// file - is stdin.
func Read(args []string, stdin io.Reader) ([]Param, error) {
	var all []Param
	for _, arg := range args {
		p, err := read(arg, stdin)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other Param) bool { return other.Name == p.Name }) {
			return nil, fmt.Errorf("parameter %s is given twice", p.Name)
		}
		all = append(all, p)
	}
	return all, nil
}

// read reads NAME=TEXT, NAME:=JSON, NAME=@FILE or NAME:=@FILE.
func read(arg string, stdin io.Reader) (Param, error) {
	name, value, ok := strings.Cut(arg, "=")
	p := Param{Value: value}
	p.Name, p.JSON = strings.CutSuffix(name, ":")
	if !ok || p.Name == "" {
		return p, fmt.Errorf("%q: want NAME=VALUE", arg)
	}
	if file, ok := strings.CutPrefix(value, "@"); ok {
		data, err := readValue(file, stdin)
		if err != nil {
			return p, fmt.Errorf("parameter %s: %w", p.Name, err)
		}
		p.Value = string(data)
	}
	switch {
	case p.JSON && !json.Valid([]byte(p.Value)):
		return p, fmt.Errorf("parameter %s: the value is not JSON", p.Name)
	case !utf8.ValidString(p.Value):
		return p, fmt.Errorf("parameter %s: the value is not UTF-8", p.Name)
	}
	return p, nil
}

func readValue(file string, stdin io.Reader) ([]byte, error) {
	switch file {
	case "":
		return nil, errors.New("want a file's name after @, or - for stdin")
	case "-":
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file)
}

// AnyLikeJSON reports whether for some parameter the type decides what its
// text means.
func AnyLikeJSON(all []Param) bool {
	return slices.ContainsFunc(all, func(p Param) bool { return !p.JSON && json.Valid([]byte(p.Value)) })
}

// Encode returns the parameter as the request holds it. Text stays a string
// but where every type it has in the script takes it as JSON.
func (p Param) Encode(types []string) (json.RawMessage, error) {
	value := []byte(p.Value)
	array := strings.HasPrefix(strings.TrimSpace(p.Value), "[")
	other := slices.ContainsFunc(types, func(t string) bool {
		return t != "json" && t != "jsonb" && !(array && strings.HasSuffix(t, "[]"))
	})
	if p.JSON || len(types) > 0 && !other && json.Valid(value) {
		return value, nil
	}
	encoded, err := json.Marshal(p.Value)
	if err != nil {
		return nil, fmt.Errorf("encode parameter %s: %w", p.Name, err)
	}
	return encoded, nil
}
