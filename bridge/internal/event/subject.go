package event

import (
	"encoding/json"

	"github.com/pgbridge/pgbridge/internal/subject"
)

// Subject is where the item is published; empty for a marker.
func (it *Item) Subject() string {
	switch it.Kind {
	case KindEvent:
		return it.Route.subjectFor(it)
	case KindGap:
		return it.Route.GapSubject
	}
	return ""
}

// subjectFor returns the subject of an event.
func (r *Route) subjectFor(it *Item) string {
	if r.fixed != "" {
		return r.fixed
	}
	return r.template.execute(it)
}

func (t template) execute(it *Item) string {
	out := make([]byte, 0, 64)
	for i, tok := range t {
		if i > 0 {
			out = append(out, '.')
		}
		if !tok.dynamic() {
			out = append(out, tok.literal...)
			continue
		}
		if value := tok.value(it); value != "" && len(value) <= maxValueBytes {
			out = subject.AppendToken(out, value)
		} else {
			out = append(out, '_')
		}
	}
	return string(out)
}

// value is what the event has for a place; empty: nothing.
func (t templateToken) value(it *Item) string {
	if t.header == "" {
		return payloadField(it.Payload, t.field)
	}
	if it.Origin == nil {
		return ""
	}
	return it.Origin.Header[t.header]
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
