package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

const (
	// longestTyped is where x/term silently drops what is typed.
	longestTyped = 4096
	// earlierLines is how many the arrow keys bring back.
	earlierLines = 500
	// forget is what Ctrl-C is to the editor: to the end, all of it away, a new line.
	forget = "\x05\x15\r"
)

// ErrLong says that a line was longer than can be typed. What of it arrived is lost.
var ErrLong = fmt.Errorf("a line that is typed has at most %d characters: paste it, or read it from a file", longestTyped-1)

// Editor reads lines from a person, who can change them before they are sent and get
// earlier ones back with the arrow keys. Ctrl-C forgets the line.
type Editor struct {
	terminal *Terminal
	lines    *term.Terminal
	keys     *keyboard
}

// Completion is asked for each key that is typed, with the line and the place in it. It
// returns the line and the place that become of it, and whether anything does.
type Completion = func(line string, pos int, key rune) (string, int, bool)

// NewEditor returns one.
func NewEditor(t *Terminal) *Editor {
	e := &Editor{terminal: t, keys: &keyboard{in: t.in}}
	e.lines = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{e.keys, t.out}, "")
	e.lines.History = &earlier{}
	return e
}

// Complete is what completes words from now on.
func (e *Editor) Complete(with Completion) { e.lines.AutoCompleteCallback = with }

// Line returns the next line, without its end; io.EOF for Ctrl-D on an empty one, and
// ctx's cause when that ends. The terminal is as it was while no line is read.
func (e *Editor) Line(ctx context.Context, prompt string) (string, error) {
	before, err := term.MakeRaw(int(e.terminal.in.Fd()))
	if err != nil {
		return "", fmt.Errorf("use the terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(e.terminal.in.Fd()), before) }()
	stop, err := e.keys.until(ctx)
	if err != nil {
		return "", fmt.Errorf("use the terminal: %w", err)
	}
	defer stop()
	_ = e.lines.SetSize(e.terminal.Screen().Size()) // there is nothing to draw again
	e.lines.SetPrompt(prompt)
	e.lines.SetBracketedPasteMode(true) // a tab in what is pasted completes nothing
	defer e.lines.SetBracketedPasteMode(false)
	line, err := e.lines.ReadLine()
	switch {
	case errors.Is(err, term.ErrPasteIndicator):
		return line, nil
	case err == nil && utf8.RuneCountInString(line) >= longestTyped:
		return "", ErrLong
	case err != nil:
		fmt.Fprint(e.terminal.out, "\r\n") // what comes next begins a line
	}
	return line, err
}

// Show shows words above the line that is typed. It may be called while one is
// completed.
func (e *Editor) Show(words []string) {
	for i := range words {
		words[i] = Printable(words[i])
	}
	fmt.Fprintln(e.lines, strings.Join(words, "  "))
}

// keyboard reads what is typed, and stops when a context ends, which a read of a
// terminal does not.
type keyboard struct {
	in      *os.File
	ctx     func() error // why reading stops
	ended   *os.File     // can be read when it is to stop
	pending []byte       // was typed, and is not read yet
}

// until makes reading stop with ctx.
func (k *keyboard) until(ctx context.Context) (stop func(), err error) {
	ended, end, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	k.ended, k.ctx = ended, func() error { return context.Cause(ctx) }
	forgotten := context.AfterFunc(ctx, func() { end.Close() })
	return func() {
		if forgotten() {
			end.Close()
		}
		ended.Close()
	}, nil
}

func (k *keyboard) Read(p []byte) (int, error) {
	if len(k.pending) == 0 {
		if err := k.wait(); err != nil {
			return 0, err
		}
		n, err := k.in.Read(p)
		if err != nil {
			return 0, err
		}
		k.pending = bytes.ReplaceAll(bytes.Clone(p[:n]), []byte{keyControlC}, []byte(forget))
	}
	n := copy(p, k.pending)
	k.pending = k.pending[n:]
	return n, nil
}

// wait returns nil when there is something to read.
func (k *keyboard) wait() error {
	polled := []unix.PollFd{{Fd: int32(k.in.Fd()), Events: unix.POLLIN}, {Fd: int32(k.ended.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(polled, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for keys: %w", err)
		case polled[1].Revents != 0:
			return k.ctx()
		default:
			return nil
		}
	}
}

// earlier are the lines before, the last one first, no empty one and none twice in a
// row.
type earlier struct{ lines []string }

func (h *earlier) Add(line string) {
	if line == "" || len(h.lines) > 0 && h.lines[0] == line {
		return
	}
	h.lines = append([]string{line}, h.lines[:min(len(h.lines), earlierLines-1)]...)
}

func (h *earlier) Len() int { return len(h.lines) }

func (h *earlier) At(i int) string { return h.lines[i] }
