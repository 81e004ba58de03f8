package harvest

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	ackWait    = 2 * time.Second
	fetched    = 100
	retryEvery = 200 * time.Millisecond
)

// Seen is a message as a reader was given it.
type Seen struct {
	Seq uint64 // in its stream
	ID  string
}

// Reader follows a stream through all faults, as an application does.
type Reader struct {
	// Name says which one it is.
	Name string
	// Ordered is one that is given each message once, in the stream's order.
	Ordered bool
	js      jetstream.JetStream
	stream  string
	dice    *rand.Rand // of one that acknowledges

	mu   sync.Mutex // guards the rest
	seen []Seen     // since the last Take
	all  map[uint64]bool
	last uint64
}

// Acknowledging is a reader with a durable consumer. Now and then it does not
// acknowledge, as if it had died with the message, and has to be given that again.
func Acknowledging(js jetstream.JetStream, stream string, dice *rand.Rand) *Reader {
	return &Reader{Name: "the durable consumer", js: js, stream: stream, dice: dice}
}

// Live is a reader with an ordered consumer, which begins again behind what it has
// whenever that ends.
func Live(js jetstream.JetStream, stream string) *Reader {
	return &Reader{Name: "the ordered consumer", Ordered: true, js: js, stream: stream}
}

// Run reads until ctx ends.
func (r *Reader) Run(ctx context.Context) {
	for wait.For(ctx, retryEvery) {
		if r.Ordered {
			r.live(ctx)
		} else {
			r.acknowledge(ctx)
		}
	}
}

// acknowledge reads until something fails.
func (r *Reader) acknowledge(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	consumer, err := r.js.CreateOrUpdateConsumer(limited, r.stream, jetstream.ConsumerConfig{
		Durable: "chaos", AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: 10 * fetched})
	if err != nil {
		return
	}
	for ctx.Err() == nil {
		batch, err := consumer.Fetch(fetched, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return
		}
		for m := range batch.Messages() {
			if r.dice.IntN(200) == 0 {
				continue
			}
			if r.note(m) {
				_ = m.Ack() // one that is lost brings the message again
			}
		}
		if batch.Error() != nil {
			return
		}
	}
}

// live reads until the consumer ends.
func (r *Reader) live(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	consumer, err := r.js.OrderedConsumer(limited, r.stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.Last() + 1})
	if err != nil {
		return
	}
	messages, err := consumer.Messages()
	if err != nil {
		return
	}
	defer messages.Stop()
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	for {
		m, err := messages.Next()
		if err != nil || !r.note(m) {
			return
		}
	}
}

// note keeps what came, and reports whether it is a message of the stream's.
func (r *Reader) note(m jetstream.Msg) bool {
	meta, err := m.Metadata()
	if err != nil {
		return false
	}
	r.Note(Seen{meta.Sequence.Stream, m.Headers().Get(api.HeaderID)})
	return true
}

// Note adds a message.
func (r *Reader) Note(s Seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[uint64]bool{}
	}
	r.seen, r.all[s.Seq], r.last = append(r.seen, s), true, max(r.last, s.Seq)
}

// Last is the highest sequence that came.
func (r *Reader) Last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Has reports whether the message with the sequence ever came.
func (r *Reader) Has(seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[seq]
}

// Take returns what has come, in its order, and forgets it.
func (r *Reader) Take() []Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}
