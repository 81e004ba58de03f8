package console

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/client"
)

const (
	// pagerAwake is how often the lease is renewed while somebody reads.
	pagerAwake = 5 * time.Second
	// tableLines is how many lines of a screen are not for rows: the titles,
	// the ruler and the keys.
	tableLines = 3

	keyControlC, keyControlD = 3, 4
)

// Screen is what a pager needs of a terminal.
type Screen struct {
	Keys io.Reader // each byte a key
	Out  io.Writer
	Size func() (columns, lines int)
}

// pager shows a scrolling cursor one page at a time.
type pager struct {
	cursor *client.Cursor
	screen Screen
	page   client.Page
	note   string // instead of rows
}

// PageRows is how many rows a page has on this screen.
func (s Screen) PageRows() int { return (&pager{screen: s}).height() }

// Page shows a scrolling cursor, of which nothing was read, one page at a time
// until q, the end of the keys, or ctx ends. A result that fits is only printed.
// begin, if it is not nil, is called before anything else is shown.
func (s Screen) Page(ctx context.Context, cursor *client.Cursor, begin func() error) error {
	p := &pager{cursor: cursor, screen: s}
	first, err := cursor.Next(ctx)
	if err != nil {
		return err
	}
	p.page = *first
	if first.Done { // all of it fits, and stays on the screen
		width, _ := s.Size()
		return Table(s.Out, client.Result{Columns: cursor.Columns, Rows: first.Rows}, width)
	}
	if begin != nil {
		if err := begin(); err != nil {
			return fmt.Errorf("use the terminal: %w", err)
		}
	}
	return p.run(ctx)
}

func (p *pager) height() int {
	_, lines := p.screen.Size()
	return max(1, lines-tableLines)
}

// run shows pages until q, or the end of the keys.
func (p *pager) run(ctx context.Context) error {
	keys, stop := make(chan byte), make(chan struct{})
	defer close(stop)
	go readKeys(p.screen.Keys, keys, stop)
	awake := time.NewTicker(pagerAwake)
	defer awake.Stop()
	for p.draw(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-awake.C:
			if _, err := p.cursor.Tx().Touch(ctx); err != nil {
				return err
			}
		case key, more := <-keys:
			if !more || key == 'q' || key == keyControlC || key == keyControlD {
				return nil
			}
			if err := p.press(ctx, key); err != nil {
				return err
			}
		}
	}
}

// readKeys ends with its reader, or when nobody takes a key any more.
func readKeys(from io.Reader, keys chan<- byte, stop <-chan struct{}) {
	defer close(keys)
	key := make([]byte, 1)
	for {
		if _, err := io.ReadFull(from, key); err != nil {
			return
		}
		select {
		case keys <- key[0]:
		case <-stop:
			return
		}
	}
}

// press does what a key asks for, and shows the result.
func (p *pager) press(ctx context.Context, key byte) error {
	var err error
	rows := p.height()
	switch key {
	case ' ', 'f':
		if p.page.Done {
			return nil
		}
	case 'b':
		err = p.move(ctx, client.Relative, p.back())
	case 'g':
		err = p.move(ctx, client.Absolute, 0)
	case 'G':
		err = p.move(ctx, client.Absolute, -rows-1)
		rows++ // one more than there are, so that it is known to be the end
	default:
		return nil
	}
	if err == nil {
		err = p.fetch(ctx, rows)
	}
	if err == nil {
		p.draw()
	}
	return err
}

// back is the way from behind this page to before the one before it.
func (p *pager) back() int {
	n := len(p.page.Rows) + p.height()
	if p.page.Done || p.note != "" {
		n++ // it stands behind the last row, or on one that is not shown
	}
	return -n
}

func (p *pager) move(ctx context.Context, d client.Direction, n int) error {
	_, err := p.cursor.Move(ctx, d, n)
	return err
}

func (p *pager) fetch(ctx context.Context, rows int) error {
	p.note = ""
	page, err := p.cursor.Fetch(ctx, client.Forward, rows)
	if failure, ok := client.AsError(err); ok && failure.Row > 0 {
		p.page, p.note = client.Page{}, fmt.Sprintf("(row %d is too large to be shown)", failure.Row)
		return nil
	}
	if err != nil {
		return err
	}
	if page.Done && len(page.Rows) == 0 && len(p.page.Rows) > 0 {
		p.page.Done = true // what is shown was the end already
		return nil
	}
	p.page = *page
	return nil
}

// draw fills the screen.
func (p *pager) draw() {
	width, _ := p.screen.Size()
	var table strings.Builder
	if p.note != "" {
		table.WriteString(p.note + "\n")
	} else if err := Table(&table, client.Result{Columns: p.cursor.Columns, Rows: p.page.Rows}, 0); err != nil {
		return // a builder takes everything
	}
	lines := strings.Split(strings.TrimRight(table.String(), "\n"), "\n")
	if p.note == "" {
		lines = lines[:len(lines)-1] // the number of rows says nothing here
	}
	var b strings.Builder
	b.WriteString("\x1b[H\x1b[2J")
	for _, line := range lines {
		b.WriteString(cut(line, width) + "\r\n")
	}
	end := ""
	if p.page.Done {
		end = "(end) "
	}
	b.WriteString("\x1b[7m" + cut(end+"space: next, b: back, g: first, G: last, q: quit", width) + "\x1b[m")
	_, _ = io.WriteString(p.screen.Out, b.String())
}
