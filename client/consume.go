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
}

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
	k := &Consumption{reader: newEvents(c.options.Prefix), durable: o.Durable != ""}
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
	return k, nil
}

// orderedConsumer makes a consumer that nobody keeps.
func (c *Client) orderedConsumer(ctx context.Context, o ConsumeOptions, subjects []string) (_ jetstream.Consumer, skip uint64, err error) {
	config := jetstream.OrderedConsumerConfig{FilterSubjects: subjects}
	if o, skip, err = c.place(ctx, o, subjects); err != nil {
		return nil, 0, err
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
		for {
			m, err := messages.Next(jetstream.NextContext(ctx))
			switch {
			case ctx.Err() != nil:
				yield(Event{}, context.Cause(ctx))
				return
			case err != nil:
				yield(Event{}, fmt.Errorf("consume: %w", err))
				return
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
