package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"
)

func TestErrorReply(t *testing.T) {
	t.Parallel()
	e := &Error{
		Code: CodeSQLError, Message: "duplicate\r\nkey <1>", Statement: 2, SQLState: "23505", Severity: "ERROR",
		Detail: "d", Hint: "h", Position: 17, Line: 3, Where: "w", Schema: "s", Table: "t", Column: "c", Constraint: "k",
	}
	reply, err := e.Reply()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"error":{"code":"sql_error","message":"duplicate\r\nkey <1>","retryable":false,"statement":2,` +
		`"sqlstate":"23505","severity":"ERROR","detail":"d","hint":"h","position":17,"line":3,"where":"w",` +
		`"schema":"s","table":"t","column":"c","constraint":"k"}}`
	if string(reply.Data) != want {
		t.Errorf("body\n%s, want\n%s", reply.Data, want)
	}
	if got := reply.Header.Get("Nats-Service-Error-Code"); got != "422" {
		t.Errorf("code header %q, want 422", got)
	}
	if got := reply.Header.Get("Nats-Service-Error"); got != "duplicate  key <1>" {
		t.Errorf("error header %q", got)
	}
}

func TestErrorReplyLeavesOutEmptyFields(t *testing.T) {
	t.Parallel()
	reply, err := Errorf(CodeBusy, "").Reply()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(reply.Data), `{"error":{"code":"busy","message":"","retryable":true}}`; got != want {
		t.Errorf("body %s, want %s", got, want)
	}
	if got := reply.Header.Get("Nats-Service-Error"); got != "busy" {
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
		reply, err := e.Reply()
		if err != nil {
			t.Fatal(err)
		}
		line := reply.Header.Get("Nats-Service-Error")
		if len(line) > 256 || !utf8.ValidString(line) || strings.IndexFunc(line, unicode.IsControl) >= 0 {
			t.Fatalf("error header %q", line)
		}
		var body struct{ Error Error }
		if err := json.Unmarshal(reply.Data, &body); err != nil {
			t.Fatalf("body %q: %v", reply.Data, err)
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

type notSent struct{ error }

func (notSent) SafeToRetry() bool { return true }

func TestFromPostgres(t *testing.T) {
	t.Parallel()
	_, refused := pgconn.Connect(t.Context(), "host=127.0.0.1 port=1 user=u database=d sslmode=disable connect_timeout=5")
	report := func(state, severity string) error {
		return fmt.Errorf("run: %w", &pgconn.PgError{Code: state, SeverityUnlocalized: severity, Severity: "FEHLER", Message: "m"})
	}
	for _, c := range []struct {
		name       string
		err        error
		committing bool
		want       Code
		retryable  bool
	}{
		{"cannot connect", refused, true, CodeUnavailable, true},
		{"never sent", notSent{io.EOF}, true, CodeUnavailable, true},
		{"lost", io.ErrUnexpectedEOF, false, CodeUnavailable, true},
		{"lost at COMMIT", io.ErrUnexpectedEOF, true, CodeUnknown, false},
		{"out of time", context.DeadlineExceeded, false, CodeTimeout, true},
		{"out of time at COMMIT", context.DeadlineExceeded, true, CodeUnknown, false},
		{"refused statement", report("23505", "ERROR"), true, CodeSQLError, false},
		{"cancelled", report("57014", "ERROR"), true, CodeTimeout, true},
		{"serialization", report("40001", "ERROR"), false, CodeConflict, true},
		{"deadlock", report("40P01", "ERROR"), false, CodeConflict, true},
		{"shutdown", report("57P01", "FATAL"), true, CodeUnavailable, true},
	} {
		got := FromPostgres(c.err, c.committing)
		if got.Code != c.want || got.Retryable != c.retryable {
			t.Errorf("%s: FromPostgres() = %s, retryable %t, want %s, %t", c.name, got.Code, got.Retryable, c.want, c.retryable)
		}
	}
}

func TestFromPostgresKeepsFields(t *testing.T) {
	t.Parallel()
	got := FromPostgres(&pgconn.PgError{
		Code: "23505", Severity: "FEHLER", SeverityUnlocalized: "ERROR", Message: "m", Detail: "d", Hint: "h", Position: 3,
		Where: "w", SchemaName: "s", TableName: "t", ColumnName: "c", ConstraintName: "k",
	}, true)
	want := Error{
		Code: CodeSQLError, SQLState: "23505", Severity: "ERROR", Message: "m", Detail: "d", Hint: "h", Position: 3,
		Where: "w", Schema: "s", Table: "t", Column: "c", Constraint: "k",
	}
	if *got != want {
		t.Errorf("FromPostgres() = %+v, want %+v", *got, want)
	}
}

func TestErrorTextIsFitForLogs(t *testing.T) {
	t.Parallel()
	report := &pgconn.PgError{Code: "22P02", Message: `invalid input syntax for type integer: "secret"`}
	for _, err := range []error{
		FromPostgres(report, false), AsError(report), AsError(fmt.Errorf("run: %w", report)),
	} {
		if strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "22P02") {
			t.Errorf("Error() = %q, want the SQLSTATE alone", err)
		}
	}
	defect := errors.New("nil map")
	if e := AsError(defect); e.Code != CodeInternal || strings.Contains(e.Message, "nil map") || !errors.Is(e, defect) {
		t.Errorf("AsError(%v) = %+v", defect, e)
	}
}
