//go:build unix

package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", path("link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		want error
	}{
		{"file", nil}, {"link", nil}, {"pipe", ErrNotRegular}, {".", ErrNotRegular}, {"none", fs.ErrNotExist},
	} {
		f, err := Open(path(tt.name))
		if !errors.Is(err, tt.want) {
			t.Errorf("Open(%s): %v, want %v", tt.name, err, tt.want)
		}
		if err != nil {
			continue
		}
		if text, err := io.ReadAll(f); err != nil || string(text) != "text" {
			t.Errorf("%s holds %q, %v", tt.name, text, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
