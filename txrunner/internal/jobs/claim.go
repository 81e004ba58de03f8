package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgbridge/pgbridge/internal/service"
)

// A job without an id of its own is named by its stream and its place in it, which
// others can foresee. Such a name is somebody else's to give only when that job is over,
// as when it failed and is tried again: else whoever gives it first has that job refused,
// or its result be another's.

// errEarly is why a job waits that has the name of another.
var errEarly = errors.New("the job that its id names is not over yet")

// serialOf names a job by the creation of its stream and its place in it.
func serialOf(created int64, place uint64) string { return fmt.Sprintf("%d.%d", created, place) }

// claim looks whether an id that came with a job is the name of another one.
func (j *Jobs) claim(ctx context.Context, one *job, id string) error {
	_, after, _ := strings.Cut(id, ".")
	place, err := strconv.ParseUint(after, 10, 64)
	if err != nil {
		return nil
	}
	info, err := j.streamInfo(ctx)
	if err != nil {
		return fmt.Errorf("stream %s: look up its creation time: %w", j.config.Stream, err)
	}
	if id != serialOf(info.Created.UnixNano(), place) {
		return nil
	}
	if place >= one.meta.Sequence.Stream {
		one.refused = service.Errorf(service.CodeInvalidRequest, "the id is the name of a job to come that has none of its own")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	consumer, err := j.sources.Load().consumer.Info(ctx)
	if err != nil {
		return fmt.Errorf("stream %s: look at the consumer: %w", j.config.Stream, err)
	}
	one.early = place > consumer.AckFloor.Stream
	return nil
}
