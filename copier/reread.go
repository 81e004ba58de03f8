package copier

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/pgbridge/pgbridge/internal/pull"
	"github.com/pgbridge/pgbridge/internal/stream"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	// rereadPause is how long after a consumer was lost the next one is made.
	rereadPause = 100 * time.Millisecond
	// forgotten is how long after nobody reads JetStream drops a consumer.
	forgotten = time.Minute
)

// reread reads the messages of a subject in their order, each once. Where one was lost, or
// the consumer is, another consumer goes on behind the last one read. Its methods are for
// one goroutine.
type reread struct {
	js      jetstream.JetStream
	stream  string
	subject string
	batch   int // messages that may wait to be read
	bytes   int // of them

	consumer  string // its name; empty: there is none
	pulled    *pull.Puller
	delivered uint64 // by this consumer
	last      uint64 // the sequence of the last message read
}

// open makes a consumer and returns how many messages there are. It blocks until JetStream
// has answered or ctx ends.
func (r *reread) open(ctx context.Context) (pending uint64, err error) {
	config := jetstream.ConsumerConfig{
		Name: nuid.Next(), FilterSubject: r.subject, AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1,
		InactiveThreshold: forgotten, MemoryStorage: true, Replicas: 1,
	}
	if r.last > 0 {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.last+1
	}
	made, err := r.js.CreateConsumer(ctx, r.stream, config)
	if err != nil {
		return 0, err
	}
	r.consumer, r.delivered = config.Name, 0
	r.pulled, err = pull.Open(pull.Options{JetStream: r.js, Stream: r.stream, Consumer: r.consumer, Batch: r.batch, Bytes: r.bytes})
	return made.CachedInfo().NumPending, err
}

// next returns a message. It waits for one until ctx ends.
func (r *reread) next(ctx context.Context) (*nats.Msg, *nats.MsgMetadata, error) {
	for {
		m, meta, err := r.try(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case err == nil && meta.Sequence.Consumer == r.delivered+1:
			r.delivered, r.last = meta.Sequence.Consumer, meta.Sequence.Stream
			return m, meta, nil
		case errors.Is(err, pull.ErrTooLong), errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, nil, err
		}
		r.close()
		wait.For(ctx, rereadPause)
	}
}

func (r *reread) try(ctx context.Context) (*nats.Msg, *nats.MsgMetadata, error) {
	if r.consumer == "" {
		if _, err := r.open(ctx); err != nil {
			return nil, nil, err
		}
	}
	m, err := r.pulled.Next(ctx)
	if err != nil {
		return nil, nil, err
	}
	meta, err := m.Metadata()
	return m, meta, err
}

// close ends the reading.
func (r *reread) close() {
	if r.pulled != nil {
		r.pulled.Close(func(*nats.Msg) {})
	}
	if r.consumer != "" { // lost, JetStream forgets it a little later
		_ = r.js.Conn().Publish(stream.APIPrefix(r.js)+"CONSUMER.DELETE."+r.stream+"."+r.consumer, nil)
	}
	r.pulled, r.consumer = nil, ""
}
