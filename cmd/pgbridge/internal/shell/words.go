package shell

import (
	"errors"
	"strings"
)

var errQuote = errors.New("a quote is not closed")

// Words splits a line as shells do: at spaces, but not within '…' or "…", in which a
// backslash keeps the next character from meaning anything.
func Words(line string) ([]string, error) {
	var all []string
	var word strings.Builder
	within, quote, escaped := false, rune(0), false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			within, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			within, quote = true, r
		case quote == 0 && (r == ' ' || r == '\t'):
			if within {
				all = append(all, word.String())
			}
			word.Reset()
			within = false
		default:
			within = true
			word.WriteRune(r)
		}
	}
	switch {
	case quote != 0:
		return nil, errQuote
	case escaped:
		return nil, errors.New("nothing follows the last backslash")
	case within:
		all = append(all, word.String())
	}
	return all, nil
}
