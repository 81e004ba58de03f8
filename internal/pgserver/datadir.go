package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// initDB makes the data directory as the account, which owns dir.
func initDB(ctx context.Context, b Binaries, account Account, dir *workDir, superuser, password string) error {
	if err := dir.root.WriteFile("password", []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the superuser's password: %w", err)
	}
	defer func() { _ = dir.root.Remove("password") }()
	if err := account.own(dir.root); err != nil {
		return err
	}
	cmd := account.Command(dir.path, b.InitDB, "-D", dir.data(), "--username", superuser,
		"--pwfile", filepath.Join(dir.path, "password"), "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := runToEnd(ctx, cmd); err != nil {
		return fmt.Errorf("make a data directory: %w\n%s", err, tail(output.Bytes()))
	}
	return nil
}

// CopyDataDir copies a data directory to a folder that does not exist yet. A
// running server's may be copied within pg_backup_start and pg_backup_stop:
// files that vanish on the way and its lock file are left out.
func CopyDataDir(ctx context.Context, from, to string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) && path != from {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "postmaster.pid" || rel == "postmaster.opts" {
			return err
		}
		return copyEntry(path, filepath.Join(to, rel), d)
	})
	if err != nil {
		return fmt.Errorf("copy data directory %s: %w", from, err)
	}
	return nil
}

func copyEntry(from, to string, d fs.DirEntry) error {
	if d.IsDir() {
		return os.Mkdir(to, 0o700)
	}
	if !d.Type().IsRegular() {
		return fmt.Errorf("%s is neither a file nor a folder", from)
	}
	err := copyFile(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the server has removed it since
	}
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// configure appends settings to a data directory's postgresql.conf, where the
// last one counts and ALTER SYSTEM overrides it.
func configure(dir *workDir, settings map[string]string) error {
	f, err := dir.root.OpenFile("data/postgresql.conf", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("configure PostgreSQL: %w", err)
	}
	_, err = f.WriteString(confLines(settings))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("configure PostgreSQL: write %s: %w", f.Name(), err)
	}
	return nil
}

func confLines(settings map[string]string) string {
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(settings[name])
		fmt.Fprintf(&lines, "%s = '%s'\n", name, value)
	}
	return "\n" + lines.String()
}

func writeFiles(dir *workDir, files map[string][]byte) error {
	for name, content := range files {
		if err := dir.root.WriteFile(filepath.Join("data", name), content, 0o600); err != nil {
			return fmt.Errorf("write %s into the data directory: %w", name, err)
		}
	}
	return nil
}
