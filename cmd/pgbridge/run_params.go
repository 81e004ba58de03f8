package main

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

// param is one parameter from the command line.
type param struct {
	name  string
	value string
	json  bool // the value is JSON, and not text
}

func readParams(args []string, stdin io.Reader) ([]param, error) {
	var params []param
	for _, arg := range args {
		p, err := readParam(arg, stdin)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(params, func(other param) bool { return other.name == p.name }) {
			return nil, fmt.Errorf("parameter %s is given twice", p.name)
		}
		params = append(params, p)
	}
	return params, nil
}

// readParam reads NAME=TEXT, NAME:=JSON, NAME=@FILE or NAME:=@FILE.
func readParam(arg string, stdin io.Reader) (param, error) {
	name, value, ok := strings.Cut(arg, "=")
	p := param{value: value}
	p.name, p.json = strings.CutSuffix(name, ":")
	if !ok || p.name == "" {
		return p, fmt.Errorf("%q: want NAME=VALUE", arg)
	}
	if file, ok := strings.CutPrefix(value, "@"); ok {
		data, err := readValue(file, stdin)
		if err != nil {
			return p, fmt.Errorf("parameter %s: %w", p.name, err)
		}
		p.value = string(data)
	}
	switch {
	case p.json && !json.Valid([]byte(p.value)):
		return p, fmt.Errorf("parameter %s: the value is not JSON", p.name)
	case !utf8.ValidString(p.value):
		return p, fmt.Errorf("parameter %s: the value is not UTF-8", p.name)
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

// anyLikeJSON reports whether for some parameter the type decides what its
// text means.
func anyLikeJSON(params []param) bool {
	return slices.ContainsFunc(params, func(p param) bool { return !p.json && json.Valid([]byte(p.value)) })
}

// encode returns the parameter as the request holds it. Text stays a string
// but where every type it has in the script takes it as JSON.
func (p param) encode(types []string) (json.RawMessage, error) {
	value := []byte(p.value)
	array := strings.HasPrefix(strings.TrimSpace(p.value), "[")
	other := slices.ContainsFunc(types, func(t string) bool {
		return t != "json" && t != "jsonb" && !(array && strings.HasSuffix(t, "[]"))
	})
	if p.json || len(types) > 0 && !other && json.Valid(value) {
		return value, nil
	}
	encoded, err := json.Marshal(p.value)
	if err != nil {
		return nil, fmt.Errorf("encode parameter %s: %w", p.name, err)
	}
	return encoded, nil
}
