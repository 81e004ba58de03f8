package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
)

// copyUpload sends a copy's data in chunks, never more of it unanswered than
// the window holds.
type copyUpload struct {
	*copyLink
	progress   func(int)
	pieces     <-chan piece
	rest       []byte // of the last piece
	seq        int
	unanswered []int // sizes of the chunks
	pending    int   // their sum
}

// piece is what one Read of the input has given, or its error.
type piece struct {
	data []byte
	err  error
}

// upload sends what from reads.
func (l *copyLink) upload(ctx context.Context, from io.Reader, progress func(int)) (copied, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	u := &copyUpload{copyLink: l, progress: progress, pieces: readPieces(ctx, from, l.opening.ChunkBytes)}
	digest := sha256.New()
	buffer := make([]byte, 0, l.opening.ChunkBytes)
	for last := false; !last; {
		var chunk []byte
		var err error
		if chunk, last, err = u.fill(ctx, buffer); err != nil {
			return copied{}, err
		}
		if len(chunk) == 0 {
			continue
		}
		_, _ = digest.Write(chunk)
		if err := u.send(ctx, chunk, nats.Header{}); err != nil {
			return copied{}, err
		}
	}
	return u.end(ctx, service.FormatDigest(digest))
}

// readPieces reads while nobody waits for it, since a pipe or a terminal cannot
// be interrupted. What it hands over is valid until the next piece is received.
// It goes on until ctx ends and the Read that is under way returns.
func readPieces(ctx context.Context, from io.Reader, size int) <-chan piece {
	pieces := make(chan piece)
	hand := func(p piece) bool {
		select {
		case pieces <- p:
			return p.err == nil
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		current, other := make([]byte, size), make([]byte, size)
		for {
			n, err := from.Read(current)
			if n > 0 && !hand(piece{data: current[:n]}) || err != nil && !hand(piece{err: err}) {
				return
			}
			current, other = other, current
		}
	}()
	return pieces
}

// fill collects a chunk. It is not a full one where the input ends, and where
// the input is slow: the server takes silence for the end of its client.
func (u *copyUpload) fill(ctx context.Context, chunk []byte) (_ []byte, last bool, err error) {
	patience := time.Duration(u.opening.StallMS) * time.Millisecond / 3
	slow := time.NewTimer(patience)
	defer slow.Stop()
	for {
		n := min(len(u.rest), cap(chunk)-len(chunk))
		chunk, u.rest = append(chunk, u.rest[:n]...), u.rest[n:]
		if len(chunk) == cap(chunk) {
			return chunk, false, nil
		}
		select {
		case p := <-u.pieces:
			switch {
			case p.err == io.EOF:
				return chunk, true, nil
			case p.err != nil:
				return nil, false, fmt.Errorf("read: %w", p.err)
			}
			u.rest = p.data
		case m := <-u.messages:
			if err := u.take(m); err != nil {
				return nil, false, err
			}
		case <-slow.C:
			if len(chunk) > 0 {
				return chunk, false, nil
			}
			if err := u.alive(); err != nil {
				return nil, false, err
			}
			slow.Reset(patience)
		case <-ctx.Done():
			return nil, false, interruption(ctx)
		}
	}
}

func (u *copyUpload) send(ctx context.Context, data []byte, header nats.Header) error {
	for len(u.messages) > 0 || u.pending > 0 && u.pending+len(data) > u.opening.WindowBytes {
		if _, err := u.answer(ctx); err != nil {
			return err
		}
	}
	u.seq++
	number := strconv.Itoa(u.seq)
	header[service.HeaderSeq] = []string{number}
	m := &nats.Msg{Subject: u.opening.Data, Reply: u.inbox + "." + number, Header: header, Data: data}
	if err := u.nc.PublishMsg(m); err != nil {
		return fmt.Errorf("send a chunk: %w", err)
	}
	u.unanswered = append(u.unanswered, len(data))
	u.pending += len(data)
	return nil
}

// answer waits for the answer to the first chunk that has none yet.
func (u *copyUpload) answer(ctx context.Context) (*nats.Msg, error) {
	m, err := u.next(ctx)
	if err != nil {
		return nil, err
	}
	return m, u.take(m)
}

// take takes the answer to a chunk.
func (u *copyUpload) take(m *nats.Msg) error {
	if nobody(m) {
		return &copyError{err: errReplicaGone}
	}
	if failure := errorIn(m); failure != nil {
		return &copyError{failure: failure}
	}
	if len(u.unanswered) > 0 {
		u.pending -= u.unanswered[0]
		u.progress(u.unanswered[0])
		u.unanswered = u.unanswered[1:]
	}
	return nil
}

// end sends the last, empty chunk and returns what its answer says.
func (u *copyUpload) end(ctx context.Context, digest string) (copied, error) {
	if err := u.send(ctx, nil, nats.Header{service.HeaderDigest: {digest}}); err != nil {
		return copied{}, err
	}
	for {
		m, err := u.answer(ctx)
		var told *copyError
		switch {
		case err != nil && !errors.As(err, &told):
			return copied{}, u.giveUpAfter(err)
		case err != nil && told.failure == nil, err != nil && told.failure.Code == service.CodeGone:
			return copied{}, unheard(err)
		case err != nil:
			return copied{}, err
		case len(m.Data) == 0:
			continue
		}
		var last copyOpening
		if err := json.Unmarshal(m.Data, &last); err != nil {
			return copied{}, fmt.Errorf("read the end of the copy: %w", err)
		}
		return copied{last.Rows, last.Bytes}, nil
	}
}
