package event

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxValueBytes bounds what a payload may put into a subject: nats-server cuts
// off a publisher whose control line is longer than 4 KiB.
const maxValueBytes = 128

// template is a subject with places for values, one element a token (the
// default subject, known whole, is a single literal).
type template []templateToken

type templateToken struct {
	literal string
	field   []string // the path of a payload's field; nil for another token
	header  string   // the name of a durable event's header; empty for another token
}

// dynamic reports whether an event decides what the token is.
func (t templateToken) dynamic() bool { return t.field != nil || t.header != "" }

// parseTemplate reads a subject template. {channel} becomes the channel's
// token at once, so only payload fields are left for each event.
func parseTemplate(text, channelToken string) (template, error) {
	if first, _, _ := strings.Cut(text, "."); text[0] == '$' || first == "_INBOX" || first == "_R_" {
		return nil, errors.New("begins with $, _INBOX or _R_, which NATS keeps for itself and for replies")
	}
	var t template
	for rest, more := text, true; more; {
		var raw string
		raw, rest, more = cutToken(rest)
		tok, err := parseToken(raw, channelToken)
		if err != nil {
			return nil, err
		}
		t = append(t, tok)
	}
	return t, nil
}

// cutToken splits at the first dot outside braces.
func cutToken(text string) (token, rest string, more bool) {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '{':
			depth++
		case '}':
			depth--
		case '.':
			if depth <= 0 {
				return text[:i], text[i+1:], true
			}
		}
	}
	return text, "", false
}

func parseToken(raw, channelToken string) (templateToken, error) {
	inner, isPlace := strings.CutPrefix(raw, "{")
	if !isPlace {
		return templateToken{literal: raw}, validateLiteral(raw)
	}
	inner, closed := strings.CutSuffix(inner, "}")
	if !closed || strings.ContainsAny(inner, "{}") {
		return templateToken{}, fmt.Errorf("token %q: a place such as {channel} fills a whole token", raw)
	}
	if inner == "channel" {
		return templateToken{literal: channelToken}, nil
	}
	if name, isHeader := strings.CutPrefix(inner, "header."); isHeader && name != "" {
		return templateToken{header: name}, nil
	}
	path, isField := strings.CutPrefix(inner, "payload.")
	if !isField {
		return templateToken{}, fmt.Errorf("unknown place %q: want {channel}, {payload.field} or {header.name}", raw)
	}
	field := strings.Split(path, ".")
	for _, name := range field {
		if name == "" {
			return templateToken{}, fmt.Errorf("place %q names an empty field", raw)
		}
	}
	return templateToken{field: field}, nil
}

func validateLiteral(token string) error {
	if token == "" {
		return errors.New("has an empty token")
	}
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c > '~' || strings.IndexByte("*>{}", c) >= 0 {
			return fmt.Errorf("token %q: want printable ASCII without spaces, wildcards or braces", token)
		}
	}
	return nil
}

func (t template) dynamic() bool {
	for _, tok := range t {
		if tok.dynamic() {
			return true
		}
	}
	return false
}

// pattern is the subject with * for each place that an event fills: what a stream or a
// subscriber asks for.
func (t template) pattern() string {
	tokens := make([]string, len(t))
	for i, tok := range t {
		if tokens[i] = tok.literal; tok.dynamic() {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}

// leadsUnder reports whether some event could have a subject below prefix.
func (t template) leadsUnder(prefix string) bool {
	if len(t) > 1 && t[0].dynamic() {
		return true // a payload must not choose where the tree begins: _INBOX is one, too
	}
	parents := strings.Split(prefix, ".")
	if len(t) <= len(parents) {
		return false
	}
	for i, parent := range parents {
		if !t[i].dynamic() && t[i].literal != parent {
			return false
		}
	}
	return true
}

func (t template) maxBytes() int {
	n := len(t) - 1
	for _, tok := range t {
		if n += len(tok.literal); tok.dynamic() {
			n += 3 * maxValueBytes // every byte percent-encoded
		}
	}
	return n
}

// needsHeaders reports whether a place is filled from a header.
func (t template) needsHeaders() bool {
	return slices.ContainsFunc(t, func(tok templateToken) bool { return tok.header != "" })
}
