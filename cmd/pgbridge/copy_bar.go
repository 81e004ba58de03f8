package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	barEvery = 200 * time.Millisecond
	barWidth = 30
)

// copyBar shows a copy's progress in one line of a terminal. A nil one shows
// nothing.
type copyBar struct {
	out   io.Writer
	total int64 // bytes; 0: not known
	begun time.Time
	done  atomic.Int64
	quit  chan struct{}
	drawn sync.WaitGroup
}

func startBar(out io.Writer, total int64, begun time.Time) *copyBar {
	b := &copyBar{out: out, total: total, begun: begun, quit: make(chan struct{})}
	b.drawn.Go(b.draw)
	return b
}

func (b *copyBar) add(n int) {
	if b != nil {
		b.done.Add(int64(n))
	}
}

// stop removes the line.
func (b *copyBar) stop() {
	if b == nil {
		return
	}
	close(b.quit)
	b.drawn.Wait()
}

func (b *copyBar) draw() {
	ticker := time.NewTicker(barEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			fmt.Fprintf(b.out, "\r%s\x1b[K", barLine(b.done.Load(), b.total, time.Since(b.begun)))
		case <-b.quit:
			fmt.Fprint(b.out, "\r\x1b[K")
			return
		}
	}
}

// barLine is what the terminal shows after some time.
func barLine(done, total int64, took time.Duration) string {
	rate := int64(float64(done) / max(took.Seconds(), 0.001))
	if total <= 0 {
		return fmt.Sprintf("%s, %s/s", inBytes(done), inBytes(rate))
	}
	done = min(done, total) // the file may have grown
	filled := int(done * barWidth / total)
	left := "?"
	if rate > 0 {
		left = (time.Duration((total-done)/rate) * time.Second).String()
	}
	return fmt.Sprintf("[%s%s] %3d%%  %s of %s, %s/s, %s left",
		strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), done*100/total,
		inBytes(done), inBytes(total), inBytes(rate), left)
}

// inBytes writes a size for people.
func inBytes(n int64) string {
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
