package copier

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	// objectBlock is how much goes into one message of an object.
	objectBlock = 128 << 10
	// cleanTimeout bounds what is done about an object of a copy that failed.
	cleanTimeout = 10 * time.Second
)

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
	case errors.Is(err, jetstream.ErrBadObjectMeta):
		return service.Errorf(service.CodeInvalidRequest, "the object %q in the bucket %q is damaged: its metadata cannot be read", k.object.Name, k.object.Bucket).WithCause(err)
	}
	return service.Errorf(service.CodeUnavailable, "the bucket %q cannot be used now", k.object.Bucket).WithCause(err)
}
