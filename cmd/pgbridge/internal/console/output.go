package console

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Output is where a copy goes. A regular file gets its name when it is
// whole.
type Output struct {
	io.Writer
	file *os.File // nil: somebody else's
	name string   // that it gets; empty: it has it
}

// CreateOutput opens what a name stands for. It is to be kept or discarded.
func CreateOutput(name string) (*Output, error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() { // a device, a pipe
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return &Output{Writer: f, file: f}, nil
	}
	// Not os.CreateTemp, whose files nobody else may read: what others may is for
	// the umask to say, or for the file that is replaced.
	mode := os.FileMode(0o666)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	temporary := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+rand.Text())
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	return &Output{Writer: f, file: f, name: name}, nil
}

// Keep makes the output what was asked for.
func (o *Output) Keep() error {
	if o.file == nil {
		return nil
	}
	if o.name == "" {
		return o.file.Close()
	}
	err := errors.Join(o.likeOld(), o.file.Close())
	if err == nil {
		err = os.Rename(o.file.Name(), o.name)
	}
	if err != nil {
		_ = os.Remove(o.file.Name())
		return fmt.Errorf("write %s: %w", o.name, err)
	}
	return nil
}

// likeOld gives the file the mode of the one that it replaces, if there is one.
func (o *Output) likeOld() error {
	info, err := os.Stat(o.name)
	if err != nil {
		return nil
	}
	return o.file.Chmod(info.Mode().Perm())
}

// Discard removes what was written, where that can be done.
func (o *Output) Discard() {
	if o.file == nil {
		return
	}
	_ = o.file.Close()
	if o.name != "" {
		_ = os.Remove(o.file.Name())
	}
}
