package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/budget"
)

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
		{"transaction_timeout", report("25P04", "FATAL"), true, CodeTimeout, true},
		{"idle too long", report("25P03", "FATAL"), true, CodeUnavailable, true},
		{"crash of another backend at COMMIT", report("57P02", "FATAL"), true, CodeUnknown, false},
		{"crash of another backend", report("57P02", "FATAL"), false, CodeUnavailable, true},
		{"panic at COMMIT", report("58030", "PANIC"), true, CodeUnknown, false},
		{"panic", report("58030", "PANIC"), false, CodeUnavailable, true},
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

func TestErrorsOfABudget(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]Code{budget.ErrFull: CodeBusy, budget.ErrTooLarge: CodeTooLarge} {
		got := AsError(fmt.Errorf("read a row: %w", cause))
		if got.Code != want || got.Retryable != (want == CodeBusy) || got.Message != cause.Error() {
			t.Errorf("AsError(%v) = %+v, want %s", cause, got, want)
		}
	}
}
