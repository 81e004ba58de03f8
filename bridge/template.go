package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pgbridge/pgbridge/internal/subject"
)

// maxValueBytes bounds what a payload may put into a subject: nats-server cuts
// off a publisher whose control line is longer than 4 KiB.
const maxValueBytes = 128

// template is a subject with places for values, one element a token (the
// default subject, known whole, is a single literal).
type template []templateToken

type templateToken struct {
	literal string
	field   []string // the path of a payload's field; nil for a literal
}

// parseTemplate reads a subject template. {channel} becomes the channel's
// token at once, so only payload fields are left for each event.
func parseTemplate(text, channelToken string) (template, error) {
	if text[0] == '$' || text == "_INBOX" || strings.HasPrefix(text, "_INBOX.") {
		return nil, errors.New("begins with $ or _INBOX, which NATS keeps for itself")
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
	path, isField := strings.CutPrefix(inner, "payload.")
	if !isField {
		return templateToken{}, fmt.Errorf("unknown place %q: want {channel} or {payload.field}", raw)
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
		if tok.field != nil {
			return true
		}
	}
	return false
}

// pattern is the subject with * for each payload field: what a stream or a
// subscriber asks for.
func (t template) pattern() string {
	tokens := make([]string, len(t))
	for i, tok := range t {
		if tokens[i] = tok.literal; tok.field != nil {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}

// leadsUnder reports whether some event could have a subject below prefix.
func (t template) leadsUnder(prefix string) bool {
	if len(t) > 1 && t[0].field != nil {
		return true // a payload must not choose where the tree begins: _INBOX is one, too
	}
	parents := strings.Split(prefix, ".")
	if len(t) <= len(parents) {
		return false
	}
	for i, parent := range parents {
		if t[i].field == nil && t[i].literal != parent {
			return false
		}
	}
	return true
}

func (t template) maxBytes() int {
	n := len(t) - 1
	for _, tok := range t {
		if n += len(tok.literal); tok.field != nil {
			n += 3 * maxValueBytes // every byte percent-encoded
		}
	}
	return n
}

func (t template) execute(payload string) string {
	out := make([]byte, 0, 64)
	for i, tok := range t {
		if i > 0 {
			out = append(out, '.')
		}
		if tok.field == nil {
			out = append(out, tok.literal...)
			continue
		}
		if value := payloadField(payload, tok.field); value != "" && len(value) <= maxValueBytes {
			out = subject.AppendToken(out, value)
		} else {
			out = append(out, '_')
		}
	}
	return string(out)
}

// payloadField returns a string field as it is and a number or boolean as
// written; everything else, a payload that is no JSON object too, is "".
func payloadField(payload string, path []string) string {
	raw := json.RawMessage(payload)
	for _, name := range path {
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return ""
		}
		raw = object[name]
	}
	if len(raw) == 0 {
		return ""
	}
	switch raw[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	case '{', '[', 'n':
		return ""
	}
	return string(raw)
}
