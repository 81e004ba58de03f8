package testenv_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestProgram(t *testing.T) {
	t.Parallel()
	fault := errors.New("a fault")
	tests := []struct {
		name string
		do   func(testing.TB) error
		want []string // of the error's text; nil: no error
	}{
		{"goes well", func(testing.TB) error { return nil }, nil},
		{"returns an error", func(testing.TB) error { return fault }, []string{"a fault"}},
		{"Fatal ends it", func(t testing.TB) error { t.Fatalf("no %s", "server"); return fault }, []string{"no server"}},
		{"Error does not end it", func(t testing.TB) error { t.Error("one"); return errors.New("two") }, []string{"one", "two"}},
	}
	for _, tt := range tests {
		var order []int
		err := testenv.Program(t.Context(), "program", func(t testing.TB) error {
			t.Cleanup(func() { order = append(order, 2) })
			t.Cleanup(func() { order = append(order, 1); t.FailNow() })
			return tt.do(t)
		})
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got := strings.Split(text, "\n"); !slices.Equal(got, tt.want) && (err != nil || tt.want != nil) {
			t.Errorf("%s: Program() = %q, want %q", tt.name, got, tt.want)
		}
		if !slices.Equal(order, []int{1, 2}) {
			t.Errorf("%s: cleanups ran in the order %v, want 1, 2", tt.name, order)
		}
	}
}

func TestProgramsFoldersAreRemoved(t *testing.T) {
	t.Parallel()
	var dir string
	err := testenv.Program(t.Context(), "program", func(t testing.TB) error {
		dir = t.TempDir()
		return os.WriteFile(dir+"/file", nil, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is there after the program: %v", err)
	}
}
