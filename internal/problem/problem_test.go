package problem_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/problem"
)

// What a session that is connected may not do is no fault of its login.
func TestRefusalsOfASessionAreNotItsLogins(t *testing.T) {
	t.Parallel()
	for state, message := range map[string]string{
		"42501": "permission denied for table position", "42704": `publication "pgbridge" does not exist`, "53300": "too many",
	} {
		err := fmt.Errorf("write: %w", &pgconn.PgError{Severity: "ERROR", Code: state, Message: message})
		if got, want := problem.ExplainSession(err), "write: ERROR: "+message+" (SQLSTATE "+state+")"; got != want {
			t.Errorf("ExplainSession(%s) = %q, want %q", state, got, want)
		}
	}
	if got := problem.ExplainSession(&pgconn.PgError{Code: "57P01"}); got != problem.ExplainPostgres(&pgconn.PgError{Code: "57P01"}) {
		t.Errorf("ExplainSession(57P01) = %q", got)
	}
	if got := problem.ExplainSession(errors.New("other")); got != "other" {
		t.Errorf("ExplainSession() = %q", got)
	}
}
