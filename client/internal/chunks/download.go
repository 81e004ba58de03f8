package chunks

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// Totals are what a whole stream held.
type Totals struct {
	Rows, Bytes int64
	Digest      string
	Last        *nats.Msg // the message that ended it
}

// Download writes the chunks to out, one Write each, and acknowledges a chunk
// when out has taken it. It calls progress with the bytes of each, if it is not
// nil, and returns when the server has said that this is all.
//
// What a server did that went away before its last word is unknown: it commits
// before that.
func (l *Link) Download(ctx context.Context, out io.Writer, progress func(int64)) (Totals, error) {
	var t Totals
	digest := sha256.New()
	for seq := 1; ; seq++ {
		m, err := l.next(ctx)
		if errors.Is(err, request.ErrReplicaGone) {
			err = fmt.Errorf("%w: %w", err, request.ErrOutcomeUnknown)
		}
		if err != nil {
			return t, err
		}
		if len(m.Data) == 0 {
			return l.end(m, t.Bytes, api.FormatDigest(digest))
		}
		if err := l.consume(m, seq, io.MultiWriter(out, digest)); err != nil {
			return t, err
		}
		t.Bytes += int64(len(m.Data))
		if progress != nil {
			progress(int64(len(m.Data)))
		}
	}
}

// elsewhere is what NATS puts in the place of a reply subject where an answer comes from
// another account. What is published there counts for a limited time, and is a permission of
// its own; the transaction's subject is imported in any case.
const elsewhere = "_R_."

// consume takes one chunk and says so.
func (l *Link) consume(m *nats.Msg, seq int, to io.Writer) error {
	if number := m.Header.Get(api.HeaderSeq); number != strconv.Itoa(seq) {
		return fmt.Errorf("chunk %d was lost on the way: %q has come", seq, number)
	}
	ack := m.Reply
	if strings.HasPrefix(ack, elsewhere) && subject.IsName(l.id) {
		ack = l.tx + ".ack." + l.id + "." + strconv.Itoa(seq)
	}
	if !strings.HasPrefix(ack, l.tx+".ack.") { // or anybody could have this client publish anywhere
		return fmt.Errorf("chunk %d wants its acknowledgement elsewhere than the transaction", seq)
	}
	if _, err := to.Write(m.Data); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := l.config.Conn.Publish(ack, nil); err != nil {
		return fmt.Errorf("acknowledge a chunk: %w", err)
	}
	return nil
}

// end compares what has come with what the last message says.
func (l *Link) end(m *nats.Msg, bytes int64, digest string) (Totals, error) {
	t := Totals{Bytes: bytes, Digest: digest, Last: m}
	if m.Header.Get(api.HeaderBytes) != strconv.FormatInt(bytes, 10) || m.Header.Get(api.HeaderDigest) != digest {
		return t, errors.New("what has come is not what was sent")
	}
	var err error
	if t.Rows, err = strconv.ParseInt(m.Header.Get(api.HeaderRows), 10, 64); err != nil {
		return t, fmt.Errorf("read the end of the stream: %w", err)
	}
	return t, nil
}
