package control

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// Keys of the service's metadata.
const (
	MetadataPrefix   = "prefix"
	MetadataDatabase = "database"
	MetadataServer   = "server"
	MetadataPart     = "part"
)

// PartEvents is what the part says of itself that publishes events.
const PartEvents = "events"

const (
	serviceName = "pgbridge"
	othersQuiet = 200 * time.Millisecond // no further answer for so long: all have answered

	// Anybody may answer, whatever they like, for as long as they like.
	othersAtMost = time.Second
	maxOthers    = 256
	maxAnswer    = 64 << 10 // bytes of an answer that is read
	maxAnswers   = 1 << 20  // of those that wait to be read
	maxName      = 256      // bytes of an id, and of the name of a server
)

// Others asks who publishes events under the prefix, and returns the server of each
// by the id of its service, this replica's included; empty where it is on none. It
// returns when all have answered that are known, or no further one has for a while.
// It is for a connection on which answers may be had; where the user may not ask,
// nobody answers.
func Others(ctx context.Context, nc *nats.Conn, prefix string, known []string) map[string]string {
	others := map[string]string{}
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return others
	}
	defer func() { _ = answers.Unsubscribe() }()
	ctx, cancel := context.WithTimeout(ctx, othersAtMost)
	defer cancel()
	if answers.SetPendingLimits(4*maxOthers, maxAnswers) != nil {
		return others
	}
	if nc.PublishRequest(micro.APIPrefix+"."+micro.InfoVerb.String()+"."+serviceName, answers.Subject, nil) != nil {
		return others
	}
	for len(others) < maxOthers && !hasAll(others, known) {
		waiting, cancel := context.WithTimeout(ctx, othersQuiet)
		m, err := answers.NextMsgWithContext(waiting)
		cancel()
		switch {
		case errors.Is(err, nats.ErrSlowConsumer): // some were dropped
		case err != nil:
			return others
		default:
			note(others, m.Data, prefix)
		}
	}
	return others
}

// note takes an answer, if it is a replica's of this prefix.
func note(others map[string]string, answer []byte, prefix string) {
	var info micro.Info
	if len(answer) > maxAnswer || json.Unmarshal(answer, &info) != nil || info.Metadata[MetadataPrefix] != prefix || info.Metadata[MetadataPart] != PartEvents {
		return
	}
	if server := info.Metadata[MetadataServer]; len(info.ID) <= maxName && len(server) <= maxName {
		others[info.ID] = server
	}
}

// hasAll reports whether all that are known have answered, if any are.
func hasAll(others map[string]string, known []string) bool {
	for _, id := range known {
		if _, answered := others[id]; !answered {
			return false
		}
	}
	return len(known) > 0
}

// askKnown is Others for those who answered the last time: a replica that came after
// that asks this one before it publishes.
func (c *Control) askKnown(ctx context.Context) map[string]string {
	if known := c.known.Load(); known != nil {
		return c.Others(ctx, *known)
	}
	return c.askAll(ctx)
}

// askAll is Others for whoever there is.
func (c *Control) askAll(ctx context.Context) map[string]string {
	others := c.Others(ctx, nil)
	answered := slices.Collect(maps.Keys(others))
	c.known.Store(&answered)
	return others
}
