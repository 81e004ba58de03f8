package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// terminal is one that somebody sits at: keys come from stdin, and stdout is
// looked at.
type terminal struct {
	in, out *os.File
	before  *unix.Termios // nil: it is as it was
}

// openTerminal returns nil where there is none.
func openTerminal(p *process) *terminal {
	in, isFile := p.stdin.(*os.File)
	out, alsoFile := p.stdout.(*os.File)
	if !isFile || !alsoFile {
		return nil
	}
	for _, f := range []*os.File{in, out} {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), getTermios); err != nil {
			return nil
		}
	}
	return &terminal{in: in, out: out}
}

// raw makes each key arrive at once, and unseen. close undoes it.
func (t *terminal) raw() error {
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

// close makes the terminal what it was.
func (t *terminal) close() {
	if t.before != nil {
		_ = unix.IoctlSetTermios(int(t.in.Fd()), setTermios, t.before)
		fmt.Fprintln(t.out)
	}
}

func (t *terminal) screen() screen {
	return screen{keys: t.in, out: t.out, size: func() (columns, lines int) {
		size, err := unix.IoctlGetWinsize(int(t.out.Fd()), unix.TIOCGWINSZ)
		if err != nil || size.Col == 0 || size.Row == 0 {
			return 80, 24
		}
		return int(size.Col), int(size.Row)
	}}
}
