package script

import (
	"slices"
	"strings"
)

// header gathers the comments before the first statement.
type header struct{ lines []headerLine }

type headerLine struct {
	text  string
	start int
}

func (h *header) add(text string, t token) {
	switch {
	case t.kind == lineComment:
		h.lines = append(h.lines, headerLine{strings.TrimSpace(strings.TrimLeft(text, "-")), t.start})
	case t.kind == space && strings.Count(text, "\n") > 1:
		h.lines = append(h.lines, headerLine{"", t.start})
	}
}

// foreign reports whether a line is for another tool that reads SQL files.
func (h headerLine) foreign() bool {
	name, _, found := strings.Cut(h.text, ":")
	name = strings.TrimSpace(name)
	if !found {
		return false
	}
	switch name {
	case "noqa", "vim", "vi", "ex", "sqlfluff", "sqlfmt", "pgformatter", "migrate", "dialect", "cspell", "spell-checker",
		"liquibase", "changeset", "rollback", "language", "prettier-ignore", "sql-formatter-disable", "sql-formatter-enable":
		return true
	case "name": // sqlc, yesql, HugSQL: "name: X :one", "name: x?"
		return true
	}
	return false
}

// setting splits a line that is one: word: value. Without the space behind the
// colon only a known word makes one, since http://… is none.
func (h headerLine) setting() (name, value string, ok bool) {
	name, value, found := strings.Cut(h.text, ":")
	name = strings.TrimSpace(name)
	if !found || !isSettingName(name) {
		return "", "", false
	}
	if value != "" && !isSpace(value[0]) && !slices.Contains(strings.Split(known, ", "), name) {
		return "", "", false
	}
	return name, strings.TrimSpace(value), true
}

func isSettingName(s string) bool {
	lower := func(c byte) bool { return 'a' <= c && c <= 'z' }
	return s != "" && lower(s[0]) &&
		run(s, func(c byte) bool { return lower(c) || isDigit(c) || c == '_' || c == '-' }) == len(s)
}
