package console

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	barEvery = 200 * time.Millisecond
	barWidth = 30
	barLeast = 5
)

// Bar shows the progress of something in one line of a terminal. A nil one shows
// nothing.
type Bar struct {
	out   io.Writer
	total atomic.Int64 // 0: not known
	unit  string       // what is counted; empty: bytes
	begun time.Time
	done  atomic.Int64
	quit  chan struct{}
	drawn sync.WaitGroup
}

// StartBar draws one until Stop; total is in bytes, 0: not known.
func StartBar(out io.Writer, total int64, begun time.Time) *Bar {
	return startBar(out, total, begun, "")
}

// StartCount draws one for things that a unit names, such as rows, where out is a
// terminal; elsewhere it returns nil.
func StartCount(out io.Writer, total int64, unit string) *Bar {
	if !IsTerminal(out) {
		return nil
	}
	return startBar(out, total, time.Now(), unit)
}

func startBar(out io.Writer, total int64, begun time.Time, unit string) *Bar {
	b := &Bar{out: out, begun: begun, unit: unit, quit: make(chan struct{})}
	b.total.Store(total)
	b.drawn.Go(b.draw)
	return b
}

// Set says how far it is.
func (b *Bar) Set(done, total int) {
	if b != nil {
		b.total.Store(int64(total))
		b.done.Store(int64(done))
	}
}

// Add counts bytes.
func (b *Bar) Add(n int64) {
	if b != nil {
		b.done.Add(n)
	}
}

// Stop removes the line.
func (b *Bar) Stop() {
	if b == nil {
		return
	}
	close(b.quit)
	b.drawn.Wait()
}

func (b *Bar) draw() {
	ticker := time.NewTicker(barEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			fmt.Fprintf(b.out, "\r%s\x1b[K", barLine(b.done.Load(), b.total.Load(), time.Since(b.begun), b.unit, Width(b.out)))
		case <-b.quit:
			fmt.Fprint(b.out, "\r\x1b[K")
			return
		}
	}
}

// barLine is what a terminal with so many columns, 0: any number, shows after some
// time: one that went on in the next line could not be drawn again.
func barLine(done, total int64, took time.Duration, unit string, columns int) string {
	if columns <= 0 {
		columns = math.MaxInt
	}
	amount, suffix := Bytes, ""
	if unit != "" {
		amount, suffix = func(n int64) string { return strconv.FormatInt(n, 10) }, " "+unit
	}
	rate := int64(float64(done) / max(took.Seconds(), 0.001))
	if total <= 0 {
		return cut(fmt.Sprintf("%s%s, %s/s", amount(done), suffix, amount(rate)), columns-1)
	}
	done = max(0, min(done, total)) // the file may have grown, and of an object anybody can say anything
	left := "?"
	if rate > 0 {
		left = (time.Duration((total-done)/rate) * time.Second).String()
	}
	text := fmt.Sprintf("%3d%%  %s of %s%s, %s/s, %s left", int(100*share(done, total)), amount(done), amount(total), suffix, amount(rate), left)
	return cut(drawn(done, total, columns-1-len("[] ")-len(text))+text, columns-1)
}

// drawn is the bar itself, as wide as there are places for it; nothing where there are
// too few.
func drawn(done, total int64, places int) string {
	width := min(barWidth, places)
	if width < barLeast {
		return ""
	}
	filled := int(share(done, total) * float64(width))
	return "[" + strings.Repeat("#", filled) + strings.Repeat(".", width-filled) + "] "
}

func share(done, total int64) float64 { return float64(done) / float64(total) }

// Bytes writes a size for people.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB"} {
		if value /= 1000; value < 999.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
