package console

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal is one that somebody sits at: keys come from stdin, and stdout is
// looked at.
type Terminal struct {
	in, out *os.File
	before  *unix.Termios // nil: it is as it was
}

// OpenTerminal returns nil where there is none.
func OpenTerminal(stdin io.Reader, stdout io.Writer) *Terminal {
	in, isFile := stdin.(*os.File)
	out, alsoFile := stdout.(*os.File)
	if !isFile || !alsoFile {
		return nil
	}
	for _, f := range []*os.File{in, out} {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), getTermios); err != nil {
			return nil
		}
	}
	return &Terminal{in: in, out: out}
}

// Raw makes each key arrive at once, and unseen. Close undoes it.
func (t *Terminal) Raw() error {
	before, err := unix.IoctlGetTermios(int(t.in.Fd()), getTermios)
	if err != nil {
		return err
	}
	raw := *before
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(t.in.Fd()), setTermios, &raw); err != nil {
		return err
	}
	t.before = before
	return nil
}

// Close makes the terminal what it was.
func (t *Terminal) Close() {
	if t.before != nil {
		_ = unix.IoctlSetTermios(int(t.in.Fd()), setTermios, t.before)
		fmt.Fprintln(t.out)
	}
}

// Screen is what a pager needs of it.
func (t *Terminal) Screen() Screen {
	return Screen{Keys: t.in, Out: t.out, Size: func() (columns, lines int) {
		size, err := unix.IoctlGetWinsize(int(t.out.Fd()), unix.TIOCGWINSZ)
		if err != nil || size.Col == 0 || size.Row == 0 {
			return 80, 24
		}
		return int(size.Col), int(size.Row)
	}}
}

// Width is how wide the terminal is that w leads to; 0 where it leads to none.
func Width(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// Colored reports whether what is written to w may have colours: somebody reads it,
// and has not said that he wants none. https://no-color.org
func Colored(w io.Writer, env func(string) string) bool {
	return IsTerminal(w) && env("NO_COLOR") == "" && env("TERM") != "dumb"
}

// IsTerminal reports whether people read what is written to w.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
