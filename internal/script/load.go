package script

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgbridge/pgbridge/internal/files"
)

const extension = ".sql"

// MaxBytes is how large a script may be; what is larger is a dump.
const MaxBytes = 8 << 20

// Links can make a few files any number, so what a folder may hold is bounded: files and
// folders by all names that lead to them, each counted as often as there are folders on
// the way, and the scripts' bytes.
const (
	maxEntries    = 100_000
	maxTotalBytes = 64 << 20
)

// Scripts are the scripts of a folder by their names.
type Scripts map[string]*Script

// Load reads all files below the folder whose names end in .sql. A script's
// name is the file's path below the folder without .sql, with dots for the
// slashes. Each element of the path is of A-Z a-z 0-9 _ -, so no two files give
// one name. Names that begin with a dot are passed over and symbolic links
// followed, as mounts of Kubernetes need it.
//
// The last Scripts, nil at first, are what an earlier Load returned. A file
// that has not changed keeps its *Script, and one that is faulty now keeps the
// one it had.
//
// Where there are more than 100,000 files and folders, or half as many in folders of
// their own and so on, or more than 64 MiB of scripts, the rest is passed over, and the
// last scripts stay.
//
// The error is of type Errors and holds the faults of all files; the scripts
// that could be had are returned beside it. It is another error where the
// folder itself cannot be read; then the last scripts are returned.
func Load(dir string, last Scripts) (Scripts, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a folder", dir)
	}
	if err != nil {
		return last, fmt.Errorf("read the scripts folder: %w", err)
	}
	l := loader{last: last, scripts: make(Scripts, len(last)), root: dir}
	l.folder(folder{path: dir, info: info})
	if l.faults != nil {
		l.faults.sort()
		return l.scripts, l.faults
	}
	return l.scripts, nil
}

type loader struct {
	last, scripts Scripts
	faults        Errors
	root          string
	entries       int // looked at so far
	bytes         int // of the scripts so far
	full          bool
}

// folder is one that is being read.
type folder struct {
	path   string // as given
	prefix string // of its scripts' names
	wrong  string // an element of the path that no name can hold
	info   fs.FileInfo
	above  *folder
	depth  int // how many are above
}

func (l *loader) folder(f folder) {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		l.keepBelow(f.prefix)
		l.fault(f.path, "read the folder: "+reason(err))
		return
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if l.count(f.depth+1, 0); l.full {
			return
		}
		l.entry(&f, entry)
	}
}

// count adds to what was found, and says once that it is too much.
func (l *loader) count(entries, bytes int) {
	l.entries, l.bytes = l.entries+entries, l.bytes+bytes
	if l.full || l.entries <= maxEntries && l.bytes <= maxTotalBytes {
		return
	}
	l.full = true
	l.keepBelow("")
	l.fault(l.root, fmt.Sprintf("too many files and folders, or more than %d MiB of scripts: the rest is passed over", maxTotalBytes>>20))
}

func (l *loader) entry(f *folder, entry fs.DirEntry) {
	path, name := filepath.Join(f.path, entry.Name()), f.prefix+entry.Name()
	isScript := strings.HasSuffix(name, extension)
	if entry.Type().IsRegular() && !isScript {
		return
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		l.unreachable(path, name, err)
	case info.IsDir():
		l.below(f, folder{path: path, prefix: name + ".", wrong: f.wrong, info: info, above: f, depth: f.depth + 1})
	case !isScript:
	case info.Mode().IsRegular() && info.Size() <= MaxBytes:
		l.file(f, path, strings.TrimSuffix(entry.Name(), extension))
	default:
		l.refuse(path, name, errNoScript.Error())
	}
}

var errNoScript = fmt.Errorf("not a regular file of at most %d MiB", MaxBytes>>20)

// readFile reads a file that may be another one by now than it was just looked at: it
// does not wait for a pipe's other end, and reads no more than a script may have.
func readFile(path string) ([]byte, error) {
	f, err := files.Open(path)
	if errors.Is(err, files.ErrNotRegular) {
		return nil, errNoScript
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	source, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err == nil && len(source) > MaxBytes {
		err = errNoScript
	}
	return source, err
}

// unreachable takes what is listed and cannot be followed. What has gone since
// it was listed is no fault, but a link that leads nowhere is.
func (l *loader) unreachable(path, name string, err error) {
	if _, gone := os.Lstat(path); errors.Is(gone, fs.ErrNotExist) {
		return
	}
	l.keepBelow(name + ".")
	l.refuse(path, name, reason(err))
}

// below reads a folder in another.
func (l *loader) below(parent *folder, f folder) {
	for above := parent; above != nil; above = above.above {
		if os.SameFile(above.info, f.info) {
			l.fault(f.path, "a link back to a folder above it")
			return
		}
	}
	if element := filepath.Base(f.path); f.wrong == "" && !isElement(element) {
		f.wrong = element
	}
	l.folder(f)
}

func (l *loader) file(f *folder, path, element string) {
	wrong := f.wrong
	if wrong == "" && !isElement(element) {
		wrong = element
	}
	if wrong != "" {
		l.fault(path, fmt.Sprintf("%q cannot be in a script's name: letters, digits, _ and - only", wrong))
		return
	}
	l.read(path, f.prefix+element)
}

func (l *loader) read(path, name string) {
	source, err := readFile(path)
	if err != nil {
		l.unreachable(path, name+extension, err)
		return
	}
	if l.count(0, len(source)); l.full {
		return
	}
	if last := l.last[name]; last != nil && last.File == path && last.source == string(source) {
		l.scripts[name] = last
		return
	}
	script, err := Parse(name, path, source)
	if err != nil {
		l.keep(name)
		all, _ := errors.AsType[Errors](err)
		l.faults = append(l.faults, all...)
		return
	}
	l.scripts[name] = script
}

// refuse notes a fault of a file, and keeps the script it was.
func (l *loader) refuse(path, fileName, msg string) {
	l.keep(strings.TrimSuffix(fileName, extension))
	l.fault(path, msg)
}

func (l *loader) fault(path, msg string) {
	l.faults = append(l.faults, &Error{File: path, Msg: msg})
}

func (l *loader) keep(name string) {
	if last := l.last[name]; last != nil {
		l.scripts[name] = last
	}
}

// keepBelow keeps the scripts of a folder that cannot be read.
func (l *loader) keepBelow(prefix string) {
	for name := range l.last {
		if strings.HasPrefix(name, prefix) {
			l.keep(name)
		}
	}
}

// reason leaves out the path, which the fault names anyway.
func reason(err error) string {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err.Error()
	}
	return err.Error()
}
