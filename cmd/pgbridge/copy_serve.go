package main

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/txrunner"
)

// extensions are what requests can do with scripts besides running them.
func extensions(copies txrunner.Extension) []txrunner.Extension {
	return []txrunner.Extension{cursors.New(), copies}
}

// newCopier makes what serves copies.
func newCopier(requests *nats.Conn, prefix string, log *zap.Logger) (*copier.Copier, error) {
	c, err := copier.New(copier.Config{Requests: requests, Prefix: prefix, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("prepare copies: %w", err)
	}
	return c, nil
}
