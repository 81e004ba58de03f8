package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	// pagerAwake is how often the lease is renewed while somebody reads.
	pagerAwake = 5 * time.Second
	// tableLines is how many lines of a screen are not for rows: the titles,
	// the ruler and the keys.
	tableLines = 3

	keyControlC, keyControlD = 3, 4
)

// screen is what a pager needs of a terminal.
type screen struct {
	keys io.Reader // each byte a key
	out  io.Writer
	size func() (columns, lines int)
}

// pager shows a scrolling cursor one page at a time.
type pager struct {
	client  *cursorClient
	screen  screen
	columns []runColumn
	page    cursorPage
	note    string // instead of rows
}

// page reads at a terminal.
func (k *cursorClient) page(ctx context.Context, what invocation, t *terminal) error {
	defer t.close()
	p := &pager{client: k, screen: t.screen()}
	first, err := k.open(ctx, what, map[string]any{"count": p.height(), "scroll": true})
	if err != nil {
		return err
	}
	defer k.close()
	p.columns, p.page = first.Columns, first
	if first.Done { // all of it fits, and stays on the screen
		return runResult{Columns: first.Columns, Rows: first.Rows}.print(k.process.stdout)
	}
	if err := t.raw(); err != nil {
		return fmt.Errorf("use the terminal: %w", err)
	}
	return p.run(ctx)
}

func (p *pager) height() int {
	_, lines := p.screen.size()
	return max(1, lines-tableLines)
}

// run shows pages until q, or the end of the keys.
func (p *pager) run(ctx context.Context) error {
	keys, stop := make(chan byte), make(chan struct{})
	defer close(stop)
	go readKeys(p.screen.keys, keys, stop)
	awake := time.NewTicker(pagerAwake)
	defer awake.Stop()
	for p.draw(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-awake.C:
			if _, err := p.client.ask(ctx, p.client.tx+".touch", nil); err != nil {
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
	switch key {
	case ' ', 'f':
		if p.page.Done {
			return nil
		}
	case 'b':
		err = p.move(ctx, "relative", p.back())
	case 'g':
		err = p.move(ctx, "absolute", 0)
	case 'G':
		err = p.move(ctx, "absolute", -p.height()-1)
	default:
		return nil
	}
	if err == nil {
		err = p.fetch(ctx)
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

func (p *pager) move(ctx context.Context, direction string, n int) error {
	_, err := p.client.verb(ctx, "move", map[string]any{"direction": direction, "count": n})
	return err
}

func (p *pager) fetch(ctx context.Context) error {
	p.note = ""
	page, err := p.client.verb(ctx, "fetch", map[string]any{"count": p.height()})
	var failure *service.Error
	if errors.As(err, &failure) && failure.Row > 0 {
		p.page, p.note = cursorPage{}, fmt.Sprintf("(row %d is too large to be shown)", failure.Row)
		return nil
	}
	if err == nil && page.Done && len(page.Rows) == 0 && len(p.page.Rows) > 0 {
		p.page.Done = true // what is shown was the end already
		return nil
	}
	p.page = page
	return err
}

// draw fills the screen.
func (p *pager) draw() {
	width, _ := p.screen.size()
	var table strings.Builder
	if p.note != "" {
		table.WriteString(p.note + "\n")
	} else if err := (runResult{Columns: p.columns, Rows: p.page.Rows}).print(&table); err != nil {
		return // a builder takes everything
	}
	lines := strings.Split(strings.TrimRight(table.String(), "\n"), "\n")
	if p.note == "" {
		lines = lines[:len(lines)-1] // the number of rows says nothing here
	}
	var b strings.Builder
	b.WriteString("\x1b[H\x1b[2J")
	for _, line := range lines {
		b.WriteString(cutTo(line, width) + "\r\n")
	}
	end := ""
	if p.page.Done {
		end = "(end) "
	}
	b.WriteString("\x1b[7m" + cutTo(end+"space: next, b: back, g: first, G: last, q: quit", width) + "\x1b[m")
	_, _ = io.WriteString(p.screen.out, b.String())
}

// cutTo shortens a line to so many characters.
func cutTo(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:max(0, width)])
}
