package txrunner

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/script"
)

// EnsureBuckets makes the object stores that scripts name and that are missing, so
// that no client of pgbridge has to be allowed to. It asks through Requests and
// returns the names of all of them. Faulty scripts are passed over.
func EnsureBuckets(ctx context.Context, c Config) ([]string, error) {
	names, err := c.buckets()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	js, err := c.jetStream()
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	for _, name := range names {
		_, err := js.ObjectStore(ctx, name)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			_, err = js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: name})
		}
		if err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
			return nil, fmt.Errorf("make the bucket %s: %w", name, err)
		}
	}
	return names, nil
}

// buckets returns the object stores that scripts name, in order.
func (c Config) buckets() ([]string, error) {
	if c.Scripts == "" {
		return nil, nil
	}
	scripts, err := script.Load(c.Scripts, nil)
	var faulty script.Errors
	if err != nil && !errors.As(err, new(*script.Error)) && !errors.As(err, &faulty) {
		return nil, err
	}
	var names []string
	for _, s := range scripts {
		names = append(names, s.Settings.Buckets...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
