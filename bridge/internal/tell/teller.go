// Package tell answers what operators ask: what this replica does, and which
// channels there are.
package tell

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/pgbridge/pgbridge/internal/api/status"
	"github.com/pgbridge/pgbridge/internal/service"
)

// envelope is room for what a list needs besides its entries.
const envelope = 1 << 10

// Teller serves <prefix>.status, which every replica answers, and <prefix>.channels,
// which any of them does.
type Teller struct {
	// Report is the body of the answer to status, of at most limit bytes. It must not
	// block. Nil means that status is not served.
	Report func(limit int) ([]byte, error)
	// Limit is how long an answer may be, in bytes.
	Limit    func() int
	channels atomic.Pointer[[]status.Channel]
}

// SetChannels replaces the channels there are. It sorts them.
func (t *Teller) SetChannels(channels []status.Channel) {
	slices.SortFunc(channels, func(a, b status.Channel) int { return cmp.Compare(a.Name, b.Name) })
	t.channels.Store(&channels)
}

// Endpoints are what the service has to serve.
func (t *Teller) Endpoints(prefix string) []service.Endpoint {
	all := []service.Endpoint{{
		Name: "channels", Subject: prefix + ".channels", ForOperators: true, Concurrency: 1,
		Handler: answering(t.listChannels),
	}}
	if t.Report != nil {
		all = append(all, service.Endpoint{
			Name: "status", Subject: prefix + ".status", ForOperators: true, Concurrency: 1, Private: &service.Private{},
			Handler: answering(t.status),
		})
	}
	return all
}

func answering(serve func(*service.Request) ([]byte, error)) service.BatchHandler {
	return func(_ context.Context, batch []*service.Request) {
		for _, r := range batch {
			body, err := serve(r)
			r.Answer(service.Reply{Data: body}, err)
		}
	}
}

func (t *Teller) status(r *service.Request) ([]byte, error) {
	f, err := r.Fields()
	if err == nil {
		err = f.End()
	}
	if err != nil {
		return nil, err
	}
	return t.Report(t.Limit())
}

// listChannels lists the channels after the one that is named, as many as fit.
func (t *Teller) listChannels(r *service.Request) ([]byte, error) {
	f, err := r.Fields()
	if err != nil {
		return nil, err
	}
	var after string
	if err := f.Read("after", "a string", &after); err != nil {
		return nil, err
	}
	if err := f.End(); err != nil {
		return nil, err
	}
	reply, room := status.Channels{Channels: []status.Channel{}}, t.Limit()-envelope
	for _, c := range *t.channels.Load() {
		if c.Name <= after {
			continue
		}
		entry, err := json.Marshal(c)
		if err != nil {
			return nil, fmt.Errorf("encode a channel: %w", err)
		}
		if room -= len(entry) + 1; room < 0 && len(reply.Channels) > 0 {
			reply.Next = reply.Channels[len(reply.Channels)-1].Name
			break
		}
		reply.Channels = append(reply.Channels, c)
	}
	body, err := json.Marshal(reply)
	if err != nil {
		return nil, fmt.Errorf("encode the channels: %w", err)
	}
	return body, nil
}
