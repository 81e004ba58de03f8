package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// deadline bounds whatever a test waits for.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustParse(t *testing.T, connString string, o Options) *Settings {
	t.Helper()
	s, err := Parse(connString, o)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return s
}

func mustTargets(t *testing.T, s *Settings) []Target {
	t.Helper()
	targets, err := s.Targets(deadline(t))
	if err != nil {
		t.Fatalf("Targets: %v", err)
	}
	return targets
}
