package service

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// The headers of chunks and of the message that ends them.
const (
	HeaderSeq     = api.HeaderSeq
	HeaderRows    = api.HeaderRows
	HeaderBytes   = api.HeaderBytes
	HeaderDigest  = api.HeaderDigest
	HeaderNotices = api.HeaderNotices
)

const (
	// maxNoticeHeader is how long the header with notices may be.
	maxNoticeHeader = 16 << 10
	// chunkHeaderBytes is room enough for what a chunk has besides its data.
	chunkHeaderBytes = 64
	// maxUnacknowledged is how many chunks may be under way, however small they
	// are: the size of each is remembered.
	maxUnacknowledged = 16_384
	// linkCheck is how often one who waits for an acknowledgement looks at the
	// connection.
	linkCheck = 500 * time.Millisecond
)

// ChunksConfig describes a stream of chunks. Ack, Window and Stall are
// required.
type ChunksConfig struct {
	// Ack is the reply subject of the chunks, but for the number at its end:
	// <tx>.ack.<id>.
	Ack string
	// Window is how many bytes may be under way unacknowledged, in 16,384 chunks at
	// most. One chunk may always be.
	Window int
	// Stall is how long a full window may stay as it is.
	Stall time.Duration
	// Header returns what the messages that end the stream carry besides. Nil
	// means nothing.
	Header func() nats.Header
}

// Chunks is a stream of numbered messages to whoever sent a request. The sender
// acknowledges them, all up to one at a time, and never has more under way than
// the window holds.
//
//	open ──Send──► open ──Delivered──► open ──End──► ended
//	  │ nobody listens, stalled, link lost, wrong acknowledgement
//	  ▼
//	failed ──Fail──► ended
//
// A chunk is never left out silently: when the connection to NATS was lost in
// between, the stream has failed. Send, Delivered, End and Fail are for one
// goroutine at a time; Acknowledge, Abort, Aborted and Failure are safe for
// concurrent use.
type Chunks struct {
	config     ChunksConfig
	request    *Request
	nc         *nats.Conn
	reconnects uint64
	message    nats.Msg // of each chunk
	reply      []byte
	rows       int64
	bytes      int64
	digest     hash.Hash
	notices    string

	mu      sync.Mutex // guards the rest
	sent    uint64     // the last chunk's number
	acked   uint64
	sizes   []int32 // of the chunks after acked
	pending int     // their sum
	failure error
	changed wait.Signal   // something above did
	aborted chan struct{} // closed with the failure
}

// NewChunks begins a stream to where r wants its answer. The caller answers r
// with what comes before the first chunk, afterwards.
func NewChunks(r *Request, config ChunksConfig) *Chunks {
	r.last()
	nc := r.nc
	return &Chunks{
		config: config, request: r, nc: nc,
		reconnects: nc.Stats().Reconnects,
		message:    nats.Msg{Subject: r.reply, Header: nats.Header{HeaderSeq: {""}}},
		reply:      []byte(config.Ack),
		digest:     sha256.New(),
		changed:    wait.NewSignal(),
		aborted:    make(chan struct{}),
	}
}

// last has everything that r's sender still gets go through the connection for what
// lasts, where that is safe: another server may not have heard yet of an inbox that
// was made just before.
func (r *Request) last() {
	lasting := r.endpoint.host.config.Lasting
	if id := lasting.ConnectedServerId(); id != "" && id == r.nc.ConnectedServerId() {
		r.nc = lasting
	}
}

// MaxChunk returns how long one chunk may be, in bytes.
func (r *Request) MaxChunk() int {
	return int(r.nc.MaxPayload()) - chunkHeaderBytes
}

// Send publishes a chunk with so many rows in it when the window has room. It
// does not keep the chunk. An empty one is ignored, since an empty message ends
// the stream. Its errors are for the client: too_large for a chunk that does
// not fit a message, timeout when the window was full for too long, unavailable
// when chunks may have been lost, invalid_request after an acknowledgement of
// something that was never sent, and ctx's. After an error all that is left to
// do is Fail.
func (c *Chunks) Send(ctx context.Context, chunk []byte, rows int) error {
	if len(chunk) == 0 {
		return nil
	}
	if most := c.request.MaxChunk(); len(chunk) > most {
		return Errorf(CodeTooLarge, "a row has %d bytes, and a message holds %d", len(chunk), most)
	}
	seq, err := c.admit(ctx, len(chunk))
	if err != nil {
		return err
	}
	_, _ = c.digest.Write(chunk)
	c.rows += int64(rows)
	c.bytes += int64(len(chunk))
	number := strconv.FormatUint(seq, 10)
	c.reply = append(c.reply[:len(c.config.Ack)], number...)
	c.message.Header[HeaderSeq][0] = number
	c.message.Reply, c.message.Data = string(c.reply), chunk
	if err := c.nc.PublishMsg(&c.message); err != nil {
		return Errorf(CodeUnavailable, "a chunk cannot be sent").WithCause(err)
	}
	return c.link()
}

// admit waits for room in the window and returns the number of the next chunk.
func (c *Chunks) admit(ctx context.Context, size int) (uint64, error) {
	var timer *time.Timer
	begin, last := time.Now(), uint64(0)
	for {
		seq, acked, err := c.enter(size)
		if seq > 0 || err != nil {
			return seq, err
		}
		if acked != last {
			begin, last = time.Now(), acked
		}
		left := c.config.Stall - time.Since(begin)
		if left <= 0 {
			return 0, Errorf(CodeTimeout, "no chunk was acknowledged for %s", c.config.Stall)
		}
		if timer == nil {
			timer = time.NewTimer(0)
			defer timer.Stop()
		}
		timer.Reset(min(left, linkCheck))
		select {
		case <-c.changed:
		case <-timer.C:
			if err := c.link(); err != nil {
				return 0, err
			}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// enter takes room in the window; seq is 0 where there is none.
func (c *Chunks) enter(size int) (seq, acked uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return 0, c.acked, c.failure
	}
	if c.pending > 0 && (c.pending+size > c.config.Window || len(c.sizes) >= maxUnacknowledged) {
		return 0, c.acked, nil
	}
	c.sent++ // before it is published: the acknowledgement may be quick
	c.pending += size
	c.sizes = append(c.sizes, int32(size))
	return c.sent, c.acked, nil
}

// link says whether everything that was sent may still arrive.
func (c *Chunks) link() error {
	if c.nc.IsConnected() && c.nc.Stats().Reconnects == c.reconnects {
		return nil
	}
	return Errorf(CodeUnavailable, "the connection to NATS was lost, and chunks may be with it")
}

// Acknowledge takes a request to the reply subject of a chunk, or NATS's word
// that nobody listens for the chunks.
func (c *Chunks) Acknowledge(r *Request) {
	if r.NoResponders() {
		c.Abort(Errorf(CodeUnavailable, "nobody listens for the chunks any more").WithCause(errNobodyListens))
		return
	}
	seq, err := strconv.ParseUint(r.Tokens[len(r.Tokens)-1], 10, 64)
	if err != nil || !c.acknowledge(seq) {
		c.Abort(Errorf(CodeInvalidRequest, "a chunk was acknowledged that was never sent"))
	}
}

// errNobodyListens is the cause of an error that has no one to be told to. It is
// no Error itself, since what works on a transaction changes those.
var errNobodyListens = errors.New("no responders")

// acknowledge makes room for what was consumed. It reports false if that was
// never sent.
func (c *Chunks) acknowledge(seq uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seq == 0 || seq > c.sent {
		return false
	}
	for ; c.acked < seq; c.acked++ {
		c.pending -= int(c.sizes[0])
		c.sizes = c.sizes[1:]
	}
	c.changed.Raise()
	return true
}

// Abort makes the stream fail with err, the first of several. What waits for
// the window returns.
func (c *Chunks) Abort(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.failure = err
		close(c.aborted)
	}
	c.changed.Raise()
}

// Aborted is closed when the stream has failed by Abort or Acknowledge, for who
// waits for something else than the window; see Failure.
func (c *Chunks) Aborted() <-chan struct{} { return c.aborted }

// Failure returns the error that Abort or Acknowledge has made the stream fail
// with, or nil.
func (c *Chunks) Failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// Delivered returns nil when NATS has everything that was sent, and somebody
// listened for it. It is the last chance to undo what goes with the stream.
func (c *Chunks) Delivered(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	err := c.request.endpoint.host.settle(ctx, c.nc)
	if failure := c.Failure(); failure != nil {
		return failure
	}
	if err != nil {
		return Errorf(CodeUnavailable, "NATS does not confirm the chunks").WithCause(err)
	}
	return c.link()
}
