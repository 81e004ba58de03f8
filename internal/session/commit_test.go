package session

import (
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Only what PostgreSQL refuses before COMMIT leaves no doubt about it.
func TestAtCommit(t *testing.T) {
	t.Parallel()
	crash := &pgconn.PgError{Code: "57P02", Severity: "FATAL"}
	for _, c := range []struct {
		what string
		err  error
		want bool
	}{
		{"a crash at a statement", &StepError{Step{Kind: StepRun}, crash}, false},
		{"a crash at COMMIT", fmt.Errorf("run: %w", &StepError{Step{Kind: StepCommit}, crash}), true},
		{"a crash at nobody knows what", crash, true},
		{"a lost connection after a statement", &StepError{Step{Kind: StepRun}, io.ErrUnexpectedEOF}, true},
	} {
		if got := AtCommit(c.err); got != c.want {
			t.Errorf("AtCommit() of %s = %t, want %t", c.what, got, c.want)
		}
	}
}
