// Package harvest reads what reached NATS: streams as a whole, and core subjects by a
// subscription that notes when its own connection was away.
package harvest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/ledger"
)

const fetchLimit = 5 * time.Second

// Item is a message: an event, or a gap.
type Item struct {
	Seq     uint64    // in its stream; else counted from 1
	At      time.Time // stored or received
	Channel string
	Key     string   // of an event, as ledger.KeyOf has it
	ID      string   // Pgbridge-Id, where there is one
	Gap     *api.Gap // nil: an event
	Row     bool     // an event that a catch-up script told
}

// Live reports whether it is an event that was notified.
func (i Item) Live() bool { return i.Gap == nil && !i.Row }

// String shows it in a line.
func (i Item) String() string {
	if g := i.Gap; g != nil {
		since := "ever"
		if g.Since != nil {
			since = g.Since.UTC().Format("15:04:05.000000")
		}
		return fmt.Sprintf("%d %s %s gap %s since %s until %s%s %s", i.Seq, i.At.UTC().Format("15:04:05.000"), i.Channel, g.Reason, since, g.Until.UTC().Format("15:04:05.000000"), caughtUp(g), i.ID)
	}
	kind := "event"
	if i.Row {
		kind = "row"
	}
	return fmt.Sprintf("%d %s %s %s %s %s", i.Seq, i.At.UTC().Format("15:04:05.000"), i.Channel, kind, i.Key, i.ID)
}

// caughtUp shows what became of a gap's script.
func caughtUp(g *api.Gap) string {
	c := g.CatchUp
	if c == nil {
		return ""
	}
	since := "ever"
	if c.Since != nil {
		since = c.Since.UTC().Format("15:04:05.000000")
	}
	return fmt.Sprintf(", %d rows since %s, complete: %t %s", c.Rows, since, c.Complete, c.Error)
}

// item reads a message. Sizes are those of large payloads by channel.
func item(subject string, header nats.Header, data []byte, sizes map[string]int) (Item, error) {
	tokens := strings.Split(subject, ".")
	if len(tokens) != 3 {
		return Item{}, fmt.Errorf("what is a message on %s?", subject)
	}
	i := Item{Channel: tokens[2], ID: header.Get(api.HeaderID), Row: header.Get(api.HeaderCatchUp) != ""}
	switch tokens[1] {
	case "event":
		i.Key = ledger.KeyOf(string(data), sizes[i.Channel])
	case "gap":
		i.Gap = &api.Gap{}
		if err := json.Unmarshal(data, i.Gap); err != nil {
			return Item{}, fmt.Errorf("read a gap on %s: %w", subject, err)
		}
	default:
		return Item{}, fmt.Errorf("what is a message on %s?", subject)
	}
	return i, nil
}

// Stream reads a stream from after one sequence to its end at this moment.
func Stream(ctx context.Context, js jetstream.JetStream, name string, after uint64, sizes map[string]int) ([]Item, error) {
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at stream %s: %w", name, err)
	}
	last := stream.CachedInfo().State.LastSeq
	if last <= after || stream.CachedInfo().State.Msgs == 0 {
		return nil, nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1})
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", name, err)
	}
	defer func() {
		if info := consumer.CachedInfo(); info != nil {
			_ = js.DeleteConsumer(ctx, name, info.Name) // it ends by itself otherwise
		}
	}()
	var items []Item
	for after < last {
		batch, err := consumer.Fetch(500, jetstream.FetchMaxWait(fetchLimit))
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", name, err)
		}
		n := 0
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return nil, err
			}
			i, err := item(m.Subject(), m.Headers(), m.Data(), sizes)
			if err != nil {
				return nil, err
			}
			i.Seq, i.At = meta.Sequence.Stream, meta.Timestamp
			items, after, n = append(items, i), i.Seq, n+1
		}
		if n == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if batch.Error() != nil && !errors.Is(batch.Error(), nats.ErrTimeout) {
				return nil, fmt.Errorf("read stream %s: %w", name, batch.Error())
			}
			return items, nil // expired, or purged
		}
	}
	return items, nil
}
