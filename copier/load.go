package copier

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pull"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// load copies from an object.
func (k *copying) load(ctx context.Context, w *execution.Execution) (api.CopySummary, error) {
	o, err := k.openObject(ctx)
	if err != nil {
		return api.CopySummary{}, err
	}
	defer o.close()
	k.progress.TotalBytes = &o.size
	done, err := k.statements(ctx, w, func(ctx context.Context, s *session.Session, sql string) (outcome, error) {
		o.marker = newEndMarker(k.reading.on(s.Conn))
		return copyIn(ctx, s, sql, func() {}, o)
	})
	if err != nil {
		return api.CopySummary{}, err
	}
	return api.CopySummary{
		ID: k.id, Rows: done.rows, Skipped: done.skipped, Bytes: o.size, Digest: api.FormatDigest(o.digest), Results: w.Results(),
	}, nil
}

// objectSource is a copy in from an object. It reads the object's messages
// itself, see
// https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md:
// the client library's Get lets any amount of them pile up in memory, follows
// links to buckets that the script does not name, and cannot be interrupted.
type objectSource struct {
	copying  *copying
	messages reread
	reading  context.Context    //nolint:containedctx // io.Reader takes none
	stop     context.CancelFunc // ends it
	memory   *budget.Hold       // for what waits to be read
	size     int64
	want     string // digest
	digest   hash.Hash
	read     int64
	rest     []byte // of the last message
	last     bool   // there are no more messages
	marker   *endMarker

	mu      sync.Mutex // guards failure
	failure error
	broken  chan struct{} // closed with it
}

// openObject finds the object and begins to read it.
func (k *copying) openObject(ctx context.Context) (*objectSource, error) {
	store, err := k.store(ctx)
	if err != nil {
		return nil, err
	}
	info, err := store.GetInfo(ctx, k.object.Name)
	if err != nil {
		return nil, k.storeError(ctx, err)
	}
	if info.Opts != nil && info.Opts.Link != nil {
		return nil, service.Errorf(service.CodeInvalidRequest, "the object %q in the bucket %q is a link to another", k.object.Name, k.object.Bucket)
	}
	o := &objectSource{copying: k, size: int64(info.Size), want: info.Digest, digest: sha256.New(), last: info.Size == 0, broken: make(chan struct{})}
	if !nuidPattern.MatchString(info.NUID) {
		return nil, o.damaged()
	}
	// What it says of its chunks' size need not be true.
	window := max(minPulled, int(k.copier.config.Requests.MaxPayload())+pulledHeaders)
	o.memory = k.task.Request.Memory()
	if err := o.memory.Grow(pulledCost * window); err != nil {
		return nil, service.AsError(err)
	}
	o.reading, o.stop = context.WithCancel(context.WithoutCancel(ctx)) // whoever ends it says why
	o.messages = reread{js: k.copier.js, stream: streamOf(k.object.Bucket), subject: chunkSubject(k.object.Bucket, info.NUID), batch: maxPulled, bytes: window}
	pending, err := o.messages.open(ctx)
	if err != nil {
		o.close()
		return nil, k.storeError(ctx, err)
	}
	if !o.last && pending == 0 {
		o.close()
		return nil, o.damaged() // there is no first message to wait for
	}
	return o, nil
}

func (o *objectSource) close() {
	o.stop()
	o.messages.close()
	o.memory.Close()
}

const (
	// minPulled is how many bytes of an object's messages may wait to be read, or
	// one message with its headers.
	minPulled     = 1 << 20
	pulledHeaders = 8 << 10
	// maxPulled is how many of them may wait: no more of the usual 128 KiB fit anyway.
	// JetStream stores 64 KiB of headers with each, which take some sixteen times that
	// when they are read, and nobody sees them before.
	maxPulled = 8
	// pulledCost is how much memory they take when they are very small.
	pulledCost = 4
)

// Fail ends a Read that waits.
func (o *objectSource) Fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failure == nil {
		o.failure = err
		close(o.broken)
		o.stop()
	}
}

// Failed is closed when Fail was called.
func (o *objectSource) Failed() <-chan struct{} { return o.broken }

func (o *objectSource) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failure
}

// Read returns more of the object. It is io.EOF only when all of it has come
// unharmed.
func (o *objectSource) Read(p []byte) (int, error) {
	for len(o.rest) == 0 {
		switch {
		case o.failed() != nil:
			return 0, o.failed()
		case o.last:
			return 0, o.whole()
		}
		if err := o.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, o.rest)
	o.rest = o.rest[n:]
	return n, nil
}

func (o *objectSource) whole() error {
	if o.read == o.size && api.SameDigest(o.digest, o.want) {
		return io.EOF
	}
	return o.damaged()
}

func (o *objectSource) damaged() error {
	at := o.copying.object
	return service.Errorf(service.CodeInvalidRequest, "the object %q in the bucket %q is damaged: it is not what its digest says", at.Name, at.Bucket)
}

// next waits for a message and looks at it.
func (o *objectSource) next() error {
	stall := o.copying.stall
	silence := time.AfterFunc(stall, func() {
		o.Fail(service.Errorf(service.CodeUnavailable, "NATS has sent nothing of the object for %s", stall))
	})
	defer silence.Stop()
	m, meta, err := o.messages.next(o.reading)
	if err != nil {
		return o.interrupted(err)
	}
	if headerSize(m.Header) > pulledHeaders {
		return o.damaged() // an object's chunks have none
	}
	o.rest = m.Data
	_, _ = o.digest.Write(o.rest)
	o.read += int64(len(o.rest))
	o.last = meta.NumPending == 0
	o.copying.progress.add(lines(o.copying.copy().Format, o.rest), len(o.rest))
	return o.marker.check(o.rest)
}

func headerSize(h nats.Header) (n int) {
	for name, values := range h {
		for _, value := range values {
			n += len(name) + len(value)
		}
	}
	return n
}

func (o *objectSource) interrupted(err error) error {
	if failure := o.failed(); failure != nil {
		return failure
	}
	if errors.Is(err, pull.ErrTooLong) {
		return o.damaged() // by its headers
	}
	return service.Errorf(service.CodeUnavailable, "the object %q in the bucket %q cannot be read to its end", o.copying.object.Name, o.copying.object.Bucket).WithCause(err)
}
