// Package starter writes what a first pgbridge needs: a configuration with comments, a
// script, and a compose file.
package starter

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed files
var embedded embed.FS

// InitCmd is the command that writes them.
type InitCmd struct {
	Folder string `arg:"" optional:"" default:"." placeholder:"DIR" help:"Where to write them; it is made if it is missing."`
}

// Help shows examples.
func (InitCmd) Help() string {
	return `Writes pgbridge.yaml with comments, scripts/hello.sql, and compose.yaml with a
PostgreSQL, a NATS server and pgbridge. No file that is there is changed: where one
is, nothing is written.

Examples:

    pgbridge init
    pgbridge init shop && pgbridge check -c shop/pgbridge.yaml --offline`
}

// Run writes the files.
func (cmd InitCmd) Run(out io.Writer) error {
	files, err := fs.Sub(embedded, "files")
	if err != nil {
		return err
	}
	names, err := absent(files, cmd.Folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := write(files, name, cmd.Folder); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, filepath.Join(cmd.Folder, name)); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

// absent lists the files, none of which may be there.
func absent(files fs.FS, folder string) (names []string, err error) {
	var there []error
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		names = append(names, name)
		path := filepath.Join(folder, name)
		switch _, err := os.Lstat(path); {
		case err == nil:
			there = append(there, fmt.Errorf("%s is there already: nothing was written", path))
		case !errors.Is(err, fs.ErrNotExist):
			there = append(there, err)
		}
		return nil
	})
	return names, errors.Join(err, errors.Join(there...))
}

// write makes one file, unless somebody has done so meanwhile.
func write(files fs.FS, name, folder string) (err error) {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	path := filepath.Join(folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
