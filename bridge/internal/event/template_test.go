package event

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

func TestParseTemplate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text    string
		pattern string // empty: refused
	}{
		{"orders", "orders"},
		{"a.b-c.D_1", "a.b-c.D_1"},
		{"audit.{channel}", "audit.my%2Echannel"},
		{"{channel}", "my%2Echannel"},
		{"audit.{payload.region}", "audit.*"},
		{"audit.{payload.a.b}.{channel}.x", "audit.*.my%2Echannel.x"},
		{"a.{payload.with space}", "a.*"},
		{"a.%", "a.%"},
		{"$JS.API", ""},
		{"$", ""},
		{"_R_.x", ""},
		{"_R_", ""},
		{".", ""},
		{"a.", ""},
		{".a", ""},
		{"a..b", ""},
		{"a.*", ""},
		{"a.>", ""},
		{"a b", ""},
		{"a\tb", ""},
		{"a\x7f", ""},
		{"ü", ""},
		{"x{channel}", ""},
		{"{channel}x", ""},
		{"{channel", ""},
		{"channel}", ""},
		{"{}", ""},
		{"{{channel}}", ""},
		{"{payload}", ""},
		{"{payload.}", ""},
		{"{payload.a..b}", ""},
		{"{payload.a.}", ""},
		{"{other}", ""},
		{"{Channel}", ""},
		{"a.{payload.x}{payload.y}", ""},
	}
	for _, tt := range tests {
		parsed, err := parseTemplate(tt.text, "my%2Echannel")
		switch {
		case err == nil && tt.pattern == "":
			t.Errorf("parseTemplate(%q) = %q, want an error", tt.text, parsed.pattern())
		case err != nil && tt.pattern != "":
			t.Errorf("parseTemplate(%q): %v", tt.text, err)
		case err == nil && parsed.pattern() != tt.pattern:
			t.Errorf("parseTemplate(%q) = %q, want %q", tt.text, parsed.pattern(), tt.pattern)
		}
	}
}

func TestTemplateExecute(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxValueBytes)
	tests := []struct{ text, payload, want string }{
		{"a.{payload.x}", `{"x": "eu"}`, "a.eu"},
		{"a.{payload.x}.b", `{"x": "eu west.1/*>"}`, "a.eu%20west%2E1%2F%2A%3E.b"},
		{"a.{payload.x}", `{"x": "é%"}`, "a.%C3%A9%25"},
		{"a.{payload.x}", `{"x": "\u00e9"}`, "a.%C3%A9"},
		{"{payload.x}", `{"x": "$SYS"}`, "%24SYS"},
		{"a.{payload.x}", `{"x": 1.50e3}`, "a.1%2E50e3"},
		{"a.{payload.x}", `{"x": -12345678901234567890123}`, "a.-12345678901234567890123"},
		{"a.{payload.x}", `{"x": true}`, "a.true"},
		{"a.{payload.x}", `{"x": false}`, "a.false"},
		{"a.{payload.x.y.z}", `{"x": {"y": {"z": "deep"}}}`, "a.deep"},
		{"a.{payload.x}", `{"x": 1, "x": 2}`, "a.2"},
		{"a.{payload.x}", `{"x": "` + long + `"}`, "a." + long},
		{"a.{payload.x}", `{"x": "` + long + `x"}`, "a._"},
		{"a.{payload.x}", `{"x": "` + strings.Repeat("é", maxValueBytes/2) + `"}`, "a." + strings.Repeat("%C3%A9", maxValueBytes/2)},
		{"a.{payload.x}", `{"x": null}`, "a._"},
		{"a.{payload.x}", `{"x": ""}`, "a._"},
		{"a.{payload.x}", `{"x": {}}`, "a._"},
		{"a.{payload.x}", `{"x": []}`, "a._"},
		{"a.{payload.x}", `{"y": 1}`, "a._"},
		{"a.{payload.x}", `{"X": 1}`, "a._"},
		{"a.{payload.x.y}", `{"x": 1}`, "a._"},
		{"a.{payload.x.y}", `{"x": null}`, "a._"},
		{"a.{payload.x}", `[1]`, "a._"},
		{"a.{payload.x}", `"x"`, "a._"},
		{"a.{payload.x}", `null`, "a._"},
		{"a.{payload.x}", ``, "a._"},
		{"a.{payload.x}", `{"x": 1`, "a._"},
		{"a.{payload.x}", `{"x": 1} {}`, "a._"},
		{"a.{channel}.{payload.x}", `{"x": "_"}`, "a.ch._"},
	}
	for _, tt := range tests {
		parsed, err := parseTemplate(tt.text, "ch")
		if err != nil {
			t.Fatal(err)
		}
		if got := parsed.execute(&Item{Payload: tt.payload}); got != tt.want {
			t.Errorf("%s with %.60s = %q, want %q", tt.text, tt.payload, got, tt.want)
		}
	}
}

func TestTemplateLeadsUnder(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text, prefix string
		want         bool
	}{
		{"pgbridge.event.x", "pgbridge", true},
		{"pgbridge.{payload.x}", "pgbridge", true},
		{"{payload.x}.run", "pgbridge", true},
		{"{payload.x}.{payload.y}", "a.b", true},
		{"{payload.x}.{payload.y}.z", "a.b", true},
		{"a.c.z", "a.b", false},
		{"a.b.z", "a.b", true},
		{"a.b", "a.b", false},
		{"pgbridge", "pgbridge", false},
		{"{payload.x}", "pgbridge", false},
		{"pgbridgex.y", "pgbridge", false},
		{"audit.pgbridge.run", "pgbridge", false},
		{"{channel}.run", "pgbridge", false},
		{"{channel}.run", "ch", true},
	}
	for _, tt := range tests {
		parsed, err := parseTemplate(tt.text, "ch")
		if err != nil {
			t.Fatal(err)
		}
		if got := parsed.leadsUnder(tt.prefix); got != tt.want {
			t.Errorf("%q leadsUnder(%q) = %t, want %t", tt.text, tt.prefix, got, tt.want)
		}
	}
}

func TestTemplateMaxBytes(t *testing.T) {
	t.Parallel()
	parsed, err := parseTemplate("ab.{payload.x}.{channel}.{payload.y}", "ch")
	if err != nil {
		t.Fatal(err)
	}
	value := strings.Repeat(".", maxValueBytes)
	longest := parsed.execute(&Item{Payload: `{"x": "` + value + `", "y": "` + value + `"}`})
	if got := parsed.maxBytes(); got != len(longest) {
		t.Errorf("maxBytes() = %d, the longest subject has %d", got, len(longest))
	}
	if _, err := NewRoute("c", "p", RouteOptions{Subject: strings.Repeat("a.", maxSubjectBytes/2) + "a"}); err == nil {
		t.Errorf("a subject over %d bytes is accepted", maxSubjectBytes)
	}
}

// FuzzTemplate: whatever the configuration and the payload hold, an event's
// subject is one that NATS takes, that the stream's pattern matches, and that
// nobody can take for a request or for NATS's own.
func FuzzTemplate(f *testing.F) {
	f.Add("audit.{payload.a.b}.{channel}", "my channel", `{"a": {"b": "eu"}}`)
	f.Add("{payload.x}.{payload.y}", "c", `{"x": "p", "y": "run"}`)
	f.Add("{channel}.x", "p", `{}`)
	f.Add("{channel}", "$JS", `"`)
	f.Fuzz(func(t *testing.T, text, channel, payload string) {
		const prefix = "p"
		r, err := NewRoute(channel, prefix, RouteOptions{Subject: text})
		if err != nil || channel == "" { // which no configuration may have
			return
		}
		got := r.subjectFor(&Item{Payload: payload})
		if !server.IsValidLiteralSubject(got) || strings.ContainsAny(got, " \t\r\n") {
			t.Errorf("subject %q is not valid", got)
		}
		if pattern := r.template.pattern(); !server.SubjectMatchesFilter(got, pattern) {
			t.Errorf("subject %q does not match the pattern %q", got, pattern)
		}
		if n := len(got); n > r.template.maxBytes() {
			t.Errorf("subject %q has %d bytes, more than maxBytes() = %d", got, n, r.template.maxBytes())
		}
		if text != "" && (strings.HasPrefix(got, prefix+".") || got[0] == '$') {
			t.Errorf("template %q leads to %q", text, got)
		}
	})
}
