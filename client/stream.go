package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
)

// errLeft says that nobody wants the rest.
var errLeft = errors.New("the loop was left")

// Stream reads all rows behind the ones given out so far, pushed by pgbridge as
// fast as they are taken: faster than [Cursor.Rows] where the way to pgbridge is
// long. It stops after an error, which ends the transaction where that is the
// cursor's own; leaving the loop early does too.
func (c *Cursor) Stream(ctx context.Context) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if first := c.first; first != nil {
			c.first = nil
			for _, row := range first.Rows {
				if !yield(row, nil) {
					return
				}
			}
		}
		if c.done {
			return
		}
		err := c.stream(ctx, func(row Row) error {
			if !yield(row, nil) {
				return errLeft
			}
			return nil
		})
		if err != nil && !errors.Is(err, errLeft) {
			yield(nil, err)
		}
	}
}

// stream gives each row to take, whose error ends it.
func (c *Cursor) stream(ctx context.Context, take func(Row) error) error {
	client := c.tx.client
	link, _, err := client.openStream(ctx, request.Request{
		Subject: join(c.tx.subject, "stream"), Body: api.StreamRequest{Cursor: c.Name}, InTx: true,
	}, c.tx.subject)
	if err != nil {
		return public(err)
	}
	defer link.Close()
	if _, err = link.Download(ctx, chunkReader(take), nil); err != nil {
		if c.own {
			err = link.Abandon(ctx, err)
			c.tx.discard(ctx)
		}
		return public(err)
	}
	c.done = true
	return nil
}

// chunkReader takes chunks, each a JSON array of rows.
type chunkReader func(Row) error

func (take chunkReader) Write(chunk []byte) (int, error) {
	var rows []Row
	if err := json.Unmarshal(chunk, &rows); err != nil {
		return 0, fmt.Errorf("read a chunk: %w", err)
	}
	for _, row := range rows {
		if err := take(row); err != nil {
			return 0, err
		}
	}
	return len(chunk), nil
}
