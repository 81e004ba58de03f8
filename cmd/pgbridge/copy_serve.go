package main

import (
	"fmt"

	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/txrunner"
)

// extensions are what requests can do with scripts besides running them.
func extensions(copies txrunner.Extension) []txrunner.Extension {
	return []txrunner.Extension{cursors.New(), copies}
}

// newCopier makes what serves copies.
func newCopier(config copier.Config) (*copier.Copier, error) {
	c, err := copier.New(config)
	if err != nil {
		return nil, fmt.Errorf("prepare copies: %w", err)
	}
	return c, nil
}
