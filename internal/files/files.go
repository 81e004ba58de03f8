// Package files opens files whose paths the configuration names.
//
// What it promises:
//
//   - Nothing waits: not for a pipe's other end, nor for a device.
package files

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotRegular is the cause of the error about a folder, a pipe, a device or a socket.
var ErrNotRegular = errors.New("not a regular file")

// Open opens a regular file, or a link to one, to be read. The error is an
// [*fs.PathError].
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}
