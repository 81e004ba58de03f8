package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/subject"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// ConsumeOptions say which events to take from their stream.
type ConsumeOptions struct {
	// Stream is the stream's name; empty: <PREFIX>_EVENTS.
	Stream string
	// Durable names a consumer that JetStream keeps: a program that is started
	// again goes on where it stopped. Empty: nothing is kept.
	Durable string
	// At most one of these says where a consumer begins that JetStream does not
	// keep yet. None: a durable one with all that the stream holds, another one
	// with the next event.
	Sequence uint64    // of the first message, as the stream counts
	Since    time.Time // when that was stored, or the next one after it
	Last     int       // so many messages before the end
	// Channels and Subjects as in SubscribeOptions.
	Channels, Subjects []string
}

// Consumption receives events from JetStream. It is for one goroutine.
type Consumption struct {
	reader   events
	consumer jetstream.Consumer
	durable  bool
	skip     uint64 // messages that come before the first that was asked for

	// last asks for the sequence of the stream's last message; nil: the consumer goes when
	// the stream does.
	last  func(context.Context) (uint64, error)
	name  string // of the consumer that was seen to be the stream's
	ahead uint64 // a sequence that was asked for, and need not be there
}

// errAnew ends a consumption: sequences of another stream say nothing.
var errAnew = errors.New("the stream was deleted and made anew")

var errBegin = errors.New("consume: more than one place to begin at, or one that cannot be")

func (o ConsumeOptions) valid() bool {
	n := 0
	for _, set := range []bool{o.Sequence > 0, !o.Since.IsZero(), o.Last != 0} {
		if set {
			n++
		}
	}
	return n <= 1 && o.Last >= 0
}

// policy is what JetStream calls the place to begin at; Last is no place of its.
func (o ConsumeOptions) policy(otherwise jetstream.DeliverPolicy) (p jetstream.DeliverPolicy, sequence uint64, since *time.Time) {
	switch {
	case o.Sequence > 0:
		return jetstream.DeliverByStartSequencePolicy, o.Sequence, nil
	case !o.Since.IsZero():
		return jetstream.DeliverByStartTimePolicy, 0, &o.Since
	}
	return otherwise, 0, nil
}

// Consume makes the consumer, which needs the permission to do so.
func (c *Client) Consume(ctx context.Context, o ConsumeOptions) (*Consumption, error) {
	if o.Stream == "" {
		o.Stream = streamName(c.options.Prefix)
	}
	k := &Consumption{reader: newEvents(c.options.Prefix), durable: o.Durable != "", ahead: o.Sequence}
	subjects := k.reader.subjects(o.Channels, o.Subjects)
	if !o.valid() {
		return nil, errBegin
	}
	consume := c.orderedConsumer
	if k.durable {
		consume = c.keptConsumer
	}
	var err error
	k.consumer, k.skip, err = consume(ctx, o, subjects)
	if err != nil {
		return nil, fmt.Errorf("consume stream %s: %w", o.Stream, err)
	}
	if !k.durable {
		k.name = k.consumer.CachedInfo().Name
		k.last = func(ctx context.Context) (uint64, error) { return c.lastSequence(ctx, o.Stream, subjects) }
	}
	return k, nil
}

// lastSequence asks for the sequence of a stream's last message, with no more permissions
// than a consumer needs.
func (c *Client) lastSequence(ctx context.Context, stream string, subjects []string) (uint64, error) {
	look, err := c.options.JetStream.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: subjects, DeliverPolicy: jetstream.DeliverNewPolicy, InactiveThreshold: time.Second,
	})
	if err != nil {
		return 0, err
	}
	return look.CachedInfo().Delivered.Stream, nil
}

// orderedConsumer makes a consumer that nobody keeps.
func (c *Client) orderedConsumer(ctx context.Context, o ConsumeOptions, subjects []string) (_ jetstream.Consumer, skip uint64, err error) {
	config := jetstream.OrderedConsumerConfig{FilterSubjects: subjects}
	if o, skip, err = c.place(ctx, o, subjects); err != nil {
		return nil, 0, err
	}
	if o.Sequence == 0 && o.Since.IsZero() {
		// What is new when the consumer has to be made again is not all that is new now.
		last, err := c.lastSequence(ctx, o.Stream, subjects)
		if err != nil {
			return nil, 0, err
		}
		o.Sequence = last + 1
	}
	config.DeliverPolicy, config.OptStartSeq, config.OptStartTime = o.policy(jetstream.DeliverNewPolicy)
	made, err := c.options.JetStream.OrderedConsumer(ctx, o.Stream, config)
	return made, skip, err
}

// keptConsumer makes a durable consumer, or takes the one there is, which has a
// place of its own.
func (c *Client) keptConsumer(ctx context.Context, o ConsumeOptions, subjects []string) (_ jetstream.Consumer, skip uint64, err error) {
	config := jetstream.ConsumerConfig{
		Durable: o.Durable, FilterSubjects: subjects,
		AckPolicy:     jetstream.AckExplicitPolicy,
		MaxAckPending: 1, // the next one comes after the acknowledgement: strict order
	}
	switch there, err := c.options.JetStream.Consumer(ctx, o.Stream, o.Durable); {
	case err == nil:
		begun := there.CachedInfo().Config
		config.DeliverPolicy, config.OptStartSeq, config.OptStartTime = begun.DeliverPolicy, begun.OptStartSeq, begun.OptStartTime
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		if o, skip, err = c.place(ctx, o, subjects); err != nil {
			return nil, 0, err
		}
		config.DeliverPolicy, config.OptStartSeq, config.OptStartTime = o.policy(jetstream.DeliverAllPolicy)
	default:
		return nil, 0, err
	}
	made, err := c.options.JetStream.CreateOrUpdateConsumer(ctx, o.Stream, config)
	return made, skip, err
}

// place makes Last a sequence, and returns how many messages come there before the
// first one wanted. It looks back twice as far each time.
func (c *Client) place(ctx context.Context, o ConsumeOptions, subjects []string) (_ ConsumeOptions, skip uint64, err error) {
	if o.Last == 0 {
		return o, 0, nil
	}
	s, err := c.options.JetStream.Stream(ctx, o.Stream)
	if err != nil {
		return o, 0, err
	}
	state, wanted := s.CachedInfo().State, uint64(o.Last)
	first := max(state.FirstSeq, 1)
	for back := wanted; ; back *= 2 {
		if o.Sequence = first; state.LastSeq >= back {
			o.Sequence = max(state.LastSeq-back+1, first)
		}
		config := jetstream.OrderedConsumerConfig{FilterSubjects: subjects, InactiveThreshold: time.Second}
		config.DeliverPolicy, config.OptStartSeq, _ = o.policy(jetstream.DeliverNewPolicy)
		look, err := c.options.JetStream.OrderedConsumer(ctx, o.Stream, config)
		if err != nil {
			return o, 0, err
		}
		if pending := look.CachedInfo().NumPending; pending >= wanted || o.Sequence == first {
			return o, pending - min(pending, wanted), nil
		}
	}
}

// Events yields what the stream holds, in its order, until ctx has ended or the
// consumer cannot be used any more: then comes the error, the last thing there
// is. With a durable consumer an event counts as handled when the loop comes back
// for the next one; one that the loop was left in comes again, with the same ID,
// and so does one whose acknowledgement was lost. An error that comes with an
// event is about that message alone.
func (k *Consumption) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		messages, err := k.consumer.Messages()
		if err != nil {
			yield(Event{}, fmt.Errorf("consume: %w", err))
			return
		}
		defer messages.Stop()
		limited, cancel := k.looking(ctx)
		defer func() { cancel() }()
		for {
			if k.last != nil && limited.Err() != nil {
				cancel()
				limited, cancel = k.looking(ctx) //nolint:fatcontext // it is of ctx each time
			}
			m, err := k.next(ctx, limited, messages)
			if err != nil {
				yield(Event{}, err)
				return
			}
			if m == nil {
				continue
			}
			if k.skip > 0 {
				k.skip--
				if err := k.handled(ctx, m); err != nil {
					yield(Event{}, err)
					return
				}
				continue
			}
			ev, err := k.reader.read(&nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()})
			if !yield(ev, err) {
				k.putBack(m)
				return
			}
			if err := k.handled(ctx, m); err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

// looking returns a context that ends when it is time to look whether the consumer is
// another one, if it can be.
func (k *Consumption) looking(ctx context.Context) (context.Context, context.CancelFunc) {
	if k.last == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, lookAt)
}

// next returns a message, or nil where none has come until limited ended.
func (k *Consumption) next(ctx, limited context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	m, err := messages.Next(jetstream.NextContext(limited))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && limited.Err() == nil:
		return nil, fmt.Errorf("consume: %w", err)
	}
	if err := k.same(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// same returns an error where the library has made the consumer again, behind the last
// message that it has had, and the stream does not reach so far: it is another one with the
// same name, and what it holds would be passed over. One that reaches further by then
// nobody can tell from the one before.
func (k *Consumption) same(ctx context.Context) error {
	if k.last == nil {
		return nil
	}
	info := k.consumer.CachedInfo()
	if info == nil || info.Name == k.name {
		return nil
	}
	last, err := k.last(ctx)
	for ; err != nil; last, err = k.last(ctx) {
		if !wait.For(ctx, lookAt) {
			return context.Cause(ctx)
		}
	}
	if start := info.Config.OptStartSeq; start > last+1 && start != k.ahead {
		return fmt.Errorf("consume: %w", errAnew)
	}
	k.name = info.Name
	return nil
}

// putBack has an event that was not handled come again at once, not when JetStream
// misses its acknowledgement.
func (k *Consumption) putBack(m jetstream.Msg) {
	if k.durable {
		_ = m.Nak() // else it comes a little later
	}
}

// handled acknowledges an event.
func (k *Consumption) handled(ctx context.Context, m jetstream.Msg) error {
	if !k.durable {
		return nil
	}
	if err := m.Ack(); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
		return fmt.Errorf("acknowledge %s: %w", m.Subject(), err)
	}
	return context.Cause(ctx)
}

// streamName is what pgbridge calls its stream of events where the configuration
// names none.
func streamName(prefix string) string {
	return subject.StreamName(prefix, "EVENTS")
}
