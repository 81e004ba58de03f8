package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/stream"
)

// tailSearch is how many messages without an id, which only somebody else can
// have stored, may hide the last one of ours.
const tailSearch = 100

// streamTail is where a stream ends.
type streamTail struct {
	created time.Time // of the stream
	seq     uint64    // of its last message, kept or not
	id      string    // of the newest message near it that has one; empty: none
	foreign bool      // messages without an id come after that

	replicated bool // over several servers
	batched    bool // it takes fast batches
	perSubject bool // a subject can be full while others are not
	full       bool
}

// endReader reads messages of a stream from its leader: what any replica
// answers, as it does where direct reads are allowed, may be older.
type endReader struct {
	nc      *nats.Conn
	request string // the subject
}

// tailOf asks the leader where the stream ends: for its state, for its last
// message, and only where that is not one of ours for those before it, all at
// once: over a long link this takes a few round trips, whatever the stream holds.
func tailOf(ctx context.Context, js jetstream.JetStream, stream jetstream.Stream) (streamTail, error) {
	info, err := stream.Info(ctx)
	if err != nil {
		return streamTail{}, err
	}
	c, state := info.Config, info.State
	tail := streamTail{
		created: info.Created, seq: state.LastSeq, replicated: c.Replicas > 1, batched: c.AllowBatchPublish,
		perSubject: c.DiscardNewPerSubject && c.MaxMsgsPerSubject > 0,
		full:       c.MaxMsgs > 0 && state.Msgs >= uint64(c.MaxMsgs) || c.MaxBytes > 0 && state.Bytes+fullMargin > uint64(c.MaxBytes),
	}
	reader := endReader{nc: js.Conn(), request: apiPrefix(js) + "STREAM.MSG.GET." + c.Name}
	last, err := reader.last(ctx, state.Msgs)
	if last == nil || err != nil {
		return tail, err
	}
	tail.seq = max(tail.seq, last.Sequence) // another replica may have published since
	if tail.id = last.id(); tail.id == "" {
		tail.foreign = true
		tail.id, err = reader.idBefore(ctx, last.Sequence)
	}
	return tail, err
}

// fullMargin is more than a message costs a stream besides its bytes.
const fullMargin = stream.MinEventBytes

// apiPrefix is where the JetStream that js uses answers.
func apiPrefix(js jetstream.JetStream) string { return stream.APIPrefix(js) }

// last returns the last message that a stream keeps, nil if it has none. ">" asks
// for the one with the last sequence, which may be gone; then the patterns that
// are not read so, and together match everything, find the one that is kept
// (nats-server, filestore.go, LoadLastMsg).
func (r endReader) last(ctx context.Context, kept uint64) (*storedMessage, error) {
	if kept == 0 {
		return nil, nil
	}
	m, err := r.get(ctx, messageRequest{Subject: ">"})
	if m != nil || err != nil {
		return m, err
	}
	found, err := r.getAll(ctx, messageRequest{Subject: "*"}, messageRequest{Subject: "*.>"})
	return slices.MaxFunc(found, func(a, b *storedMessage) int { return cmp.Compare(a.sequence(), b.sequence()) }), err
}

// idBefore returns the newest id in front of a message, within tailSearch.
func (r endReader) idBefore(ctx context.Context, seq uint64) (string, error) {
	var before []messageRequest
	for n := seq - 1; n > 0 && len(before) < tailSearch; n-- {
		before = append(before, messageRequest{Seq: n})
	}
	found, err := r.getAll(ctx, before...)
	for _, m := range found {
		if m.id() != "" {
			return m.id(), err
		}
	}
	return "", err
}

// getAll gets messages, all at once.
func (r endReader) getAll(ctx context.Context, requests ...messageRequest) ([]*storedMessage, error) {
	found := make([]*storedMessage, len(requests))
	all, ctx := errgroup.WithContext(ctx)
	for i, q := range requests {
		all.Go(func() (err error) {
			found[i], err = r.get(ctx, q)
			return err
		})
	}
	return found, all.Wait()
}

// messageRequest asks for a message by its number, or for the last on a subject
// (https://docs.nats.io/reference/reference-protocols/nats_api_reference).
type messageRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	Subject string `json:"last_by_subj,omitempty"`
}

// storedMessage is what the stream tells of a message.
type storedMessage struct {
	Sequence uint64 `json:"seq"`
	Header   []byte `json:"hdrs"`
}

// id returns the message's id, whichever header it is in; empty if it is none of
// ours.
func (m *storedMessage) id() string {
	if m == nil {
		return ""
	}
	h, err := nats.DecodeHeadersMsg(m.Header)
	if err != nil {
		return ""
	}
	return cmp.Or(h.Get(event.HeaderID), h.Get(event.HeaderMsgID))
}

// header returns the first value of a header.
func (m *storedMessage) header(key string) string {
	h, err := nats.DecodeHeadersMsg(m.Header)
	if err != nil {
		return ""
	}
	return h.Get(key)
}

func (m *storedMessage) sequence() uint64 {
	if m == nil {
		return 0
	}
	return m.Sequence
}

// get returns a message; nil means that the stream does not have it, which does
// not say that it never had.
func (r endReader) get(ctx context.Context, q messageRequest) (*storedMessage, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	m, err := r.nc.RequestWithContext(ctx, r.request, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *storedMessage      `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, fmt.Errorf("answer of the stream: %w", err)
	}
	switch {
	case answer.Error == nil:
		return answer.Message, nil
	case errors.Is(answer.Error, jetstream.ErrMsgNotFound):
		return nil, nil
	}
	return nil, answer.Error
}
