package chunks

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

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
)

// roomForHeaders is what a chunk has besides its data.
const roomForHeaders = 128

// mostChunk is the largest message that a nats-server can be made to take.
const mostChunk = 64 << 20

// mostUnanswered is how many chunks a server lets be unanswered, whatever their
// size.
const mostUnanswered = 16384

// Upload sends what from reads, as the opening wants it, and returns the
// server's last word, which comes after COMMIT. It calls progress with the bytes
// of each chunk that was answered, if it is not nil.
//
// An input that is slow is sent in smaller chunks; the server takes one that is
// silent for its stall time for gone. A Read that blocks when ctx ends is left
// behind, in a goroutine that ends with it.
func (l *Link) Upload(ctx context.Context, o api.CopyOpening, from io.Reader, progress func(int64)) (api.CopySummary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	size := chunkSize(o.ChunkBytes, l.config.Conn.MaxPayload())
	u := &upload{Link: l, opening: o, progress: progress, pieces: readPieces(ctx, from, size)}
	digest := sha256.New()
	buffer := make([]byte, 0, size)
	for last := false; !last; {
		var chunk []byte
		var err error
		if chunk, last, err = u.fill(ctx, buffer); err != nil {
			return api.CopySummary{}, err
		}
		if len(chunk) == 0 {
			continue
		}
		_, _ = digest.Write(chunk) // a hash takes everything
		if err := u.send(ctx, chunk, nats.Header{}); err != nil {
			return api.CopySummary{}, err
		}
	}
	return u.end(ctx, api.FormatDigest(digest))
}

// chunkSize is how large chunks are that are asked for, where a message has at most so
// many bytes. Both are others' word, for which no memory is taken beyond what can be.
func chunkSize(asked int, maxPayload int64) int {
	size := min(asked, mostChunk)
	if maxPayload > 0 {
		size = min(size, int(min(maxPayload, mostChunk))-roomForHeaders)
	}
	return max(1, size)
}

// upload is the state of one.
type upload struct {
	*Link
	opening    api.CopyOpening
	progress   func(int64)
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

// readPieces reads while nobody waits for it, since a pipe or a terminal cannot
// be interrupted. What it hands over is valid until the next piece is received.
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
func (u *upload) fill(ctx context.Context, chunk []byte) (_ []byte, last bool, err error) {
	patience := max(time.Duration(u.opening.StallMS)*time.Millisecond/3, time.Millisecond)
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
			if err := u.alive(ctx); err != nil {
				return nil, false, err
			}
			slow.Reset(patience)
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

func (u *upload) full(more int) bool {
	return len(u.unanswered) > 0 && (u.pending+more > u.opening.WindowBytes || len(u.unanswered) >= mostUnanswered)
}

func (u *upload) send(ctx context.Context, data []byte, header nats.Header) error {
	for len(u.messages) > 0 || u.full(len(data)) {
		if _, err := u.answer(ctx); err != nil {
			return err
		}
	}
	u.seq++
	number := strconv.Itoa(u.seq)
	header[api.HeaderSeq] = []string{number}
	m := &nats.Msg{Subject: u.opening.Data, Reply: u.config.Inbox + "." + number, Header: header, Data: data}
	if err := u.config.Conn.PublishMsg(m); err != nil {
		return fmt.Errorf("send a chunk: %w", err)
	}
	u.unanswered = append(u.unanswered, len(data))
	u.pending += len(data)
	return nil
}

// answer waits for the answer to the first chunk that has none yet.
func (u *upload) answer(ctx context.Context) (*nats.Msg, error) {
	m, err := u.next(ctx)
	if err != nil {
		return nil, err
	}
	return m, u.take(m)
}

// take takes the answer to a chunk.
func (u *upload) take(m *nats.Msg) error {
	if err := answered(m); err != nil {
		return err
	}
	if len(u.unanswered) > 0 {
		u.pending -= u.unanswered[0]
		if u.progress != nil {
			u.progress(int64(u.unanswered[0]))
		}
		u.unanswered = u.unanswered[1:]
	}
	return nil
}

// end sends the last, empty chunk and returns what its answer says.
func (u *upload) end(ctx context.Context, digest string) (last api.CopySummary, err error) {
	if err := u.send(ctx, nil, nats.Header{api.HeaderDigest: {digest}}); err != nil {
		return last, err
	}
	for {
		m, err := u.answer(ctx)
		var refused *api.Error
		switch {
		case errors.Is(err, request.ErrReplicaGone), errors.As(err, &refused) && refused.Code == api.CodeGone:
			return last, fmt.Errorf("%w: %w", err, request.ErrOutcomeUnknown) // it may have been committed
		case err != nil:
			return last, err
		case len(m.Data) == 0:
			continue
		}
		if err := json.Unmarshal(m.Data, &last); err != nil {
			return last, fmt.Errorf("read the end of the copy: %w", err)
		}
		return last, nil
	}
}
