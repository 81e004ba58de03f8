package api

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

func TestErrorReply(t *testing.T) {
	t.Parallel()
	e := &Error{
		Code: CodeSQLError, Message: "duplicate\r\nkey <1>", Statement: 2, SQLState: "23505", Severity: "ERROR",
		Detail: "d", Hint: "h", Position: 17, Line: 3, Where: "w", Schema: "s", Table: "t", Column: "c", Constraint: "k",
	}
	header, data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"error":{"code":"sql_error","message":"duplicate\r\nkey <1>","retryable":false,"statement":2,` +
		`"sqlstate":"23505","severity":"ERROR","detail":"d","hint":"h","position":17,"line":3,"where":"w",` +
		`"schema":"s","table":"t","column":"c","constraint":"k"}}`
	if string(data) != want {
		t.Errorf("body\n%s, want\n%s", data, want)
	}
	if got := header.Get("Nats-Service-Error-Code"); got != "422" {
		t.Errorf("code header %q, want 422", got)
	}
	if got := header.Get("Nats-Service-Error"); got != "duplicate  key <1>" {
		t.Errorf("error header %q", got)
	}
}

func TestErrorReplyLeavesOutEmptyFields(t *testing.T) {
	t.Parallel()
	header, data, err := Errorf(CodeBusy, "").Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(data), `{"error":{"code":"busy","message":"","retryable":true}}`; got != want {
		t.Errorf("body %s, want %s", got, want)
	}
	if got := header.Get("Nats-Service-Error"); got != "busy" {
		t.Errorf("error header %q, want the code", got)
	}
}

func TestErrorReplyIsBoundedAndClean(t *testing.T) {
	t.Parallel()
	text := rapid.Custom(func(t *rapid.T) string {
		part := string(rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "bytes")) + rapid.String().Draw(t, "runes")
		return strings.Repeat(part, rapid.IntRange(1, 800).Draw(t, "times"))
	})
	rapid.Check(t, func(t *rapid.T) {
		e := &Error{Code: CodeSQLError, Message: text.Draw(t, "message"), Detail: text.Draw(t, "detail"), Where: text.Draw(t, "where")}
		header, data, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		line := header.Get("Nats-Service-Error")
		if len(line) > 256 || !utf8.ValidString(line) || strings.IndexFunc(line, unicode.IsControl) >= 0 {
			t.Fatalf("error header %q", line)
		}
		var body struct{ Error Error }
		if err := json.Unmarshal(data, &body); err != nil {
			t.Fatalf("body %q: %v", data, err)
		}
		for _, pair := range [][2]string{
			{e.Message, body.Error.Message}, {e.Detail, body.Error.Detail}, {e.Where, body.Error.Where},
		} {
			if want := cut(pair[0], 8192); pair[1] != want || len(want) > 8192 {
				t.Fatalf("%d bytes became %d, want %d", len(pair[0]), len(pair[1]), len(want))
			}
		}
	})
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, want string
		limit    int
	}{
		{"", "", 3}, {"abc", "abc", 3}, {"abcd", "abc", 3}, {"aé", "a", 2}, {"aé", "aé", 3},
		{"a€", "a", 3}, {"😀😀", "😀", 7}, {"\xff\xfe", "?", 5}, {"\x80\x80\x80\x80\x80\x80", "?", 5},
	} {
		if got := cut(c.in, c.limit); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func TestCodeNumbers(t *testing.T) {
	t.Parallel()
	for code, want := range map[Code]int{
		CodeInvalidRequest: 400, CodeDenied: 403, CodeNotFound: 404, CodeTimeout: 408, CodeConflict: 409,
		CodeGone: 410, CodeTooLarge: 413, CodeSQLError: 422, CodeBusy: 429, CodeInternal: 500,
		CodeUnavailable: 503, CodeUnknown: 504, "nonsense": 500,
	} {
		if got := code.Number(); got != want {
			t.Errorf("%s.Number() = %d, want %d", code, got, want)
		}
	}
}
func TestDecodeError(t *testing.T) {
	t.Parallel()
	e := &Error{Code: CodeSQLError, Message: "m <1>", SQLState: "23505", Retryable: true, Row: 7, Table: "t"}
	header, data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got := DecodeError(header, data); got == nil || *got != *e {
		t.Errorf("decoded %+v, want %+v", got, e)
	}
	for _, body := range []string{"", "{}", `{"error":null}`, `[]`, `{"error": {"code": 7}}`} {
		got := DecodeError(nats.Header{HeaderErrorCode: {"429"}, HeaderError: {"too much"}}, []byte(body))
		if got == nil || got.Code != CodeBusy || got.Message != "too much" {
			t.Errorf("with the body %q: %+v", body, got)
		}
	}
	if got := DecodeError(nats.Header{HeaderErrorCode: {"x"}}, nil); got == nil || got.Code != CodeInternal {
		t.Errorf("an unknown number is %+v", got)
	}
	if got := DecodeError(nil, []byte(`{"error":{"code":"busy"}}`)); got != nil {
		t.Errorf("no header, but %+v", got)
	}
}
