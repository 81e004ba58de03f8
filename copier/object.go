package copier

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

const (
	// objectBlock is how much goes into one message of an object.
	objectBlock = 128 << 10
	// cleanTimeout bounds what is done about an object of a copy that failed.
	cleanTimeout = 10 * time.Second
)

// transfer does a copy from or to an object, and returns the only reply to it.
func (k *copying) transfer(ctx context.Context) (service.Reply, error) {
	body, replayed, err := k.transferOnce(ctx)
	switch {
	case err != nil:
		k.count(err)
		return service.Reply{}, err
	case replayed != nil:
		return *replayed, nil
	}
	k.count(nil)
	return service.Reply{Data: body}, nil
}

func (k *copying) transferOnce(ctx context.Context) (body []byte, replayed *service.Reply, err error) {
	replayed, err = k.task.Begin(ctx)
	if replayed != nil || err != nil {
		return nil, replayed, err
	}
	work := k.export
	if k.in() {
		work = k.load
	}
	var stored *jetstream.ObjectInfo
	err = k.task.Do(ctx, func(ctx context.Context, w *txrunner.Work) error {
		s, err := work(ctx, w, &stored)
		if err != nil {
			return err
		}
		if body, err = encode(s); err != nil {
			return err
		}
		return k.commit(ctx, w, body)
	})
	if err != nil && stored != nil && service.AsError(err).Code != service.CodeUnknown {
		k.discard(ctx, stored.NUID)
	}
	return body, nil, err
}

// store opens the bucket.
func (k *copying) store(ctx context.Context) (jetstream.ObjectStore, error) {
	s, err := k.copier.js.ObjectStore(ctx, k.object.Bucket)
	if err != nil {
		return nil, k.storeError(ctx, err)
	}
	return s, nil
}

// storeError is an object store's error as clients see it. Where ctx has ended
// it is ctx's, so that its reason is told.
func (k *copying) storeError(ctx context.Context, err error) error {
	var known *service.Error
	switch {
	case errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, jetstream.ErrBucketNotFound):
		return service.Errorf(service.CodeNotFound, "no bucket %q", k.object.Bucket).WithCause(err)
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return service.Errorf(service.CodeNotFound, "no object %q in the bucket %q", k.object.Name, k.object.Bucket).WithCause(err)
	}
	return service.Errorf(service.CodeUnavailable, "the bucket %q cannot be used now", k.object.Bucket).WithCause(err)
}

// export copies to an object, which stored is set to.
func (k *copying) export(ctx context.Context, w *txrunner.Work, stored **jetstream.ObjectInfo) (summary, error) {
	store, err := k.store(ctx)
	if err != nil {
		return summary{}, err
	}
	var info *jetstream.ObjectInfo
	rows, err := k.statements(ctx, w, func(ctx context.Context, conn *pgconn.PgConn, sql string) (pgconn.CommandTag, error) {
		tag, put, err := k.exportData(ctx, store, conn, sql)
		info, *stored = put, put
		return tag, err
	})
	if err != nil {
		return summary{}, err
	}
	return summary{ID: k.id, Rows: rows, Bytes: int64(info.Size), Digest: info.Digest}, nil
}

// exportData has the object store read what PostgreSQL writes. The object can
// be seen when all of it is stored, before COMMIT: the other way round a script
// that deletes what it has exported could lose it.
func (k *copying) exportData(ctx context.Context, store jetstream.ObjectStore, conn *pgconn.PgConn, sql string) (pgconn.CommandTag, *jetstream.ObjectInfo, error) {
	// Put removes what it has stored so far when its reader fails, and cannot
	// when its context has ended.
	putting, cancel := lateContext(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	var info *jetstream.ObjectInfo
	var putErr error
	var put sync.WaitGroup
	put.Go(func() {
		info, putErr = store.Put(putting, jetstream.ObjectMeta{Name: k.object.Name}, reader)
		_ = reader.CloseWithError(errors.Join(putErr, io.ErrClosedPipe)) // or PostgreSQL's rows wait for ever
	})
	buffer := bufio.NewWriterSize(writer, objectBlock) // each Read becomes a message
	tag, err := copyOut(ctx, conn, sql, func() {}, func(row []byte) error {
		k.progress.add(1, len(row))
		_, err := buffer.Write(row)
		return err
	})
	if err == nil {
		err = buffer.Flush()
	}
	_ = writer.CloseWithError(err) // nil is the end of the object
	put.Wait()
	switch {
	case putErr != nil && (err == nil || errors.Is(err, io.ErrClosedPipe)):
		return tag, nil, k.storeError(ctx, putErr)
	case err != nil:
		return tag, nil, err
	}
	return tag, info, nil
}

// lateContext returns a context that ends some time after ctx has. It has a
// deadline where ctx has one: without it each message would have its own.
func lateContext(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(cleanTimeout, cancel) })
	timed, release := late, context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		timed, release = context.WithDeadline(late, deadline.Add(cleanTimeout))
	}
	return timed, func() { stop(); release(); cancel() }
}

// discard removes the object of a copy that failed afterwards, unless another
// one has taken its name meanwhile.
func (k *copying) discard(ctx context.Context, nuid string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if err := k.remove(ctx, nuid); err != nil {
		k.copier.config.Logger.Warn("the object of a copy that failed is still there",
			zap.String("script", k.script.Name), zap.String("bucket", k.object.Bucket), zap.Error(err))
	}
}

func (k *copying) remove(ctx context.Context, nuid string) error {
	store, err := k.store(ctx)
	if err != nil {
		return err
	}
	now, err := store.GetInfo(ctx, k.object.Name)
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("look for the object: %w", err)
	case now.NUID != nuid:
		return nil
	}
	return store.Delete(ctx, k.object.Name)
}
