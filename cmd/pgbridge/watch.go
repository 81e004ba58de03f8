package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

// watch shows something every so often until a signal. At a terminal each showing
// takes the place of the one before; elsewhere they follow each other. An error
// while the signal comes is none.
func (p *process) watch(ctx context.Context, every time.Duration, show func(context.Context, io.Writer) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	terminal := console.IsTerminal(p.stdout)
	for {
		var shown bytes.Buffer
		if terminal {
			fmt.Fprintf(&shown, "%severy %s, %s; Ctrl-C ends\n\n", console.Clear, every, time.Now().Format(time.TimeOnly))
		}
		err := show(ctx, &shown)
		if ctx.Err() != nil {
			return nil
		}
		if _, writing := p.stdout.Write(shown.Bytes()); writing != nil {
			return fmt.Errorf("print: %w", writing)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
