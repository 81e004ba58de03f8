package main

import (
	"context"
	"fmt"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/typegen"
)

// typeWriter writes the types of one script, or of all.
type typeWriter struct {
	language typegen.Language
	name     string // of Go's package
	script   string // empty: all
}

// write does so once all are known: half a file would be no types.
func (w typeWriter) write(ctx context.Context, p *process, r *remote) error {
	names := []string{w.script}
	if w.script == "" {
		scripts, err := r.Scripts(ctx)
		if err != nil {
			return err
		}
		names = nil
		for _, s := range scripts {
			names = append(names, s.Name)
		}
	}
	all := make([]*client.Description, len(names))
	for i, name := range names {
		var err error
		if all[i], err = describeOne(ctx, r, name); err != nil {
			fmt.Fprintf(p.stderr, "pgbridge: the script %s:\n", console.Printable(name))
			return err
		}
	}
	written, err := typegen.Write(w.language, w.name, all)
	if err != nil {
		return err
	}
	_, err = p.shown(p.stdout).Write(written)
	return err
}

func describeOne(ctx context.Context, r *remote, name string) (*client.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*answerLimit)
	defer cancel()
	return r.Describe(ctx, name)
}
