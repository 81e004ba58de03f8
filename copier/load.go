package copier

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// load copies from an object.
func (k *copying) load(ctx context.Context, w *txrunner.Work, _ **jetstream.ObjectInfo) (summary, error) {
	o, err := k.openObject(ctx)
	if err != nil {
		return summary{}, err
	}
	defer o.messages.Stop()
	k.progress.totalBytes = &o.size
	rows, err := k.statements(ctx, w, func(ctx context.Context, conn *pgconn.PgConn, sql string) (pgconn.CommandTag, error) {
		o.marker = newEndMarker(k.copy().Format, sql, conn.ParameterStatus("server_version"))
		return copyIn(ctx, conn, sql, func() {}, o)
	})
	if err != nil {
		return summary{}, err
	}
	return summary{k.id, rows, o.size, service.FormatDigest(o.digest), w.Results()}, nil
}

// objectSource is a copy in from an object. It reads the object's messages
// itself, see
// https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md:
// the client library's Get lets any amount of them pile up in memory, follows
// links to buckets that the script does not name, and cannot be interrupted.
type objectSource struct {
	copying  *copying
	messages jetstream.MessagesContext
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
	chunk := objectBlock
	if info.Opts != nil {
		if info.Opts.Link != nil {
			return nil, service.Errorf(service.CodeInvalidRequest, "the object %q in the bucket %q is a link to another", k.object.Name, k.object.Bucket)
		}
		chunk = max(1, int(info.Opts.ChunkSize))
	}
	o := &objectSource{copying: k, size: int64(info.Size), want: info.Digest, digest: sha256.New(), last: info.Size == 0, broken: make(chan struct{})}
	consumer, err := k.copier.js.OrderedConsumer(ctx, "OBJ_"+k.object.Bucket, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{fmt.Sprintf("$O.%s.C.%s", k.object.Bucket, info.NUID)},
	})
	if err == nil {
		if !o.last && consumer.CachedInfo().NumPending == 0 {
			return nil, o.damaged() // there is no first message to wait for
		}
		o.messages, err = consumer.Messages(jetstream.PullMaxMessages(min(max(2, k.window/chunk/2), maxPulled)))
	}
	if err != nil {
		return nil, k.storeError(ctx, err)
	}
	return o, nil
}

// maxPulled is how many messages of an object may wait to be read, whatever it
// says of their size.
const maxPulled = 64

// Fail ends a Read that waits.
func (o *objectSource) Fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failure == nil {
		o.failure = err
		close(o.broken)
		o.messages.Stop()
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
	if o.read == o.size && service.SameDigest(o.digest, o.want) {
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
	m, err := o.messages.Next()
	if err != nil {
		return o.interrupted(err)
	}
	meta, err := m.Metadata()
	if err != nil {
		return o.interrupted(err)
	}
	o.rest = m.Data()
	_, _ = o.digest.Write(o.rest)
	o.read += int64(len(o.rest))
	o.last = meta.NumPending == 0
	o.copying.progress.add(lines(o.copying.copy().Format, o.rest), len(o.rest))
	return o.marker.check(o.rest)
}

func (o *objectSource) interrupted(err error) error {
	if failure := o.failed(); failure != nil {
		return failure
	}
	if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
		err = errors.New("it was deleted meanwhile")
	}
	return service.Errorf(service.CodeUnavailable, "the object %q in the bucket %q cannot be read to its end", o.copying.object.Name, o.copying.object.Bucket).WithCause(err)
}
