package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// SubscribeOptions say which events to receive.
type SubscribeOptions struct {
	// Channels are PostgreSQL's; none, and no subjects: all of the prefix that
	// have no subject of their own.
	Channels []string
	// Subjects are further ones, of channels that have a subject of their own.
	Subjects []string
	// Buffer is how many events may wait to be taken, whatever their size; 0: 65,536.
	// More are dropped, and a gap says so.
	Buffer int
}

// Subscription receives events over core NATS: those that are published while it
// exists. It is for one goroutine and has to be closed.
type Subscription struct {
	client   *Client
	reader   events
	messages chan *nats.Msg
	subs     []*nats.Subscription
	status   chan nats.Status
	look     *time.Ticker // at what NATS has said
	said     error        // what it has said last

	reconnects uint64 // that were told
	dropped    int64
}

const (
	defaultBuffer = 64 << 10
	flushLimit    = 10 * time.Second
	lookAt        = time.Second // how often it is asked what NATS has said
)

// Subscribe returns when the server has the subscription, so that what is
// notified from then on arrives, or a gap.
func (c *Client) Subscribe(ctx context.Context, o SubscribeOptions) (*Subscription, error) {
	if o.Buffer <= 0 {
		o.Buffer = defaultBuffer
	}
	s := &Subscription{
		client: c, reader: newEvents(c.options.Prefix), messages: make(chan *nats.Msg, o.Buffer),
		status: c.nc.StatusChanged(nats.CONNECTED, nats.CLOSED), reconnects: c.nc.Stats().Reconnects,
		look: time.NewTicker(lookAt),
	}
	before := c.nc.LastError()
	for _, subject := range s.reader.subjects(o.Channels, o.Subjects) {
		sub, err := c.nc.ChanSubscribe(subject, s.messages)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("subscribe %s: %w", subject, err)
		}
		s.subs = append(s.subs, sub)
	}
	limited, cancel := context.WithTimeout(ctx, flushLimit)
	defer cancel()
	if err := c.nc.FlushWithContext(limited); err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribe: %w", errors.Join(err, context.Cause(ctx)))
	}
	// A refusal came before the answer to the flush.
	err := c.nc.LastError()
	if err != before && (errors.Is(err, nats.ErrPermissionViolation) || errors.Is(err, nats.ErrMaxSubscriptionsExceeded)) {
		s.Close()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.said = err
	return s, nil
}

// Close ends the subscription. What has arrived and was not taken is thrown away.
func (s *Subscription) Close() {
	for _, sub := range s.subs {
		_ = sub.Unsubscribe() // it ends with the connection, or now
	}
	s.client.nc.RemoveStatusListener(s.status)
	s.look.Stop()
}

// Events yields what arrives, in its order, until ctx has ended, the connection was closed
// or NATS has taken away the permission: then comes the error, the last thing there is. A gap
// stands before every event that came after the loss, also where this client
// lost its connection or was too slow; such a gap is about every channel and has
// none. An error that comes with an event is about that message alone.
func (s *Subscription) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			m, err := s.next(ctx)
			if err != nil {
				yield(Event{}, err)
				return
			}
			for _, gap := range s.losses() {
				if !yield(Event{Gap: gap}, nil) {
					return
				}
			}
			if m == nil {
				continue
			}
			if !yield(s.reader.read(m)) {
				return
			}
		}
	}
}

// next returns a message, or nil where the connection has something to say.
func (s *Subscription) next(ctx context.Context) (*nats.Msg, error) {
	select {
	case m := <-s.messages:
		return m, nil
	case status := <-s.status:
		if status == nats.CLOSED {
			return nil, nats.ErrConnectionClosed
		}
		return nil, nil
	case <-s.look.C:
		return nil, s.forbidden()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// forbidden is NATS's word that one of the subjects may not be heard any more. It says that
// to the connection alone, which stays, and hears nothing more of the subject.
func (s *Subscription) forbidden() error {
	said := s.client.nc.LastError()
	if said == s.said || !errors.Is(said, nats.ErrPermissionViolation) {
		return nil
	}
	s.said = said
	for _, sub := range s.subs {
		if strings.Contains(said.Error(), "Subscription to "+strconv.Quote(sub.Subject)) {
			return fmt.Errorf("subscribe: %w", said)
		}
	}
	return nil
}

// losses are those that were not told. nats.go counts a reconnect before it
// subscribes again, so the gap stands before whatever came after it.
func (s *Subscription) losses() []*Gap {
	var gaps []*Gap
	now := time.Now()
	if n := s.client.nc.Stats().Reconnects; n != s.reconnects {
		s.reconnects = n
		gaps = append(gaps, &Gap{Reason: ReasonDisconnected, Until: now})
	}
	var dropped int64
	for _, sub := range s.subs {
		if n, err := sub.Dropped(); err == nil {
			dropped += int64(n)
		}
	}
	if lost := dropped - s.dropped; lost > 0 {
		s.dropped = dropped
		gaps = append(gaps, &Gap{Reason: ReasonSlow, Until: now, Dropped: &lost})
	}
	return gaps
}
