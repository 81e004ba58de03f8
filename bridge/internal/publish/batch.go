package publish

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// batchFlow is after how many messages a batch of many is acknowledged; the server
// may choose less.
const batchFlow = 500

// Operations of a batch (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md).
const (
	batchStart = iota
	batchAppend
	batchCommit // with a message
)

// batch is a fast batch of JetStream: its messages are stored in order, and what
// comes behind a missing or refused one is not stored. With a flow of one each is
// acknowledged as soon as it is stored.
type batch struct {
	id     string
	reply  string // of its messages, without number and operation
	sent   uint64
	last   time.Time // when the last message was sent
	acked  uint64    // of sent, the first ones
	flow   uint64    // an acknowledgement comes after so many at the most
	cursor uint64    // number in the flight from which on its unacknowledged ones are
	closed bool      // its last message was sent as such
}

// newBatch returns a batch whose first message has this number in the flight.
// count makes its id the only one of its kind.
func newBatch(inbox string, count, number, flow uint64) *batch {
	own := inbox[strings.LastIndexByte(inbox, '.')+1:]
	id := own + "-" + strconv.FormatUint(count, 36)
	return &batch{id: id, reply: inbox + "." + id + "." + strconv.FormatUint(flow, 10) + ".fail.", flow: flow, cursor: number}
}

func (b *batch) unacked() uint64 { return b.sent - b.acked }

// next returns the reply subject for its next message.
func (b *batch) next(last bool) string {
	b.sent++
	b.last = time.Now()
	operation := batchAppend
	switch {
	case last:
		operation, b.closed = batchCommit, true
	case b.sent == 1:
		operation = batchStart
	}
	buf := make([]byte, 0, 96)
	buf = append(buf, b.reply...)
	buf = strconv.AppendUint(buf, b.sent, 10)
	buf = append(buf, '.')
	buf = strconv.AppendInt(buf, int64(operation), 10)
	return string(append(buf, ".$FI"...))
}

// takeBack undoes next for a message that was not sent.
func (b *batch) takeBack() { b.sent, b.closed = b.sent-1, false }

// batchAnswer is what the server says to a batch.
type batchAnswer struct {
	Type     string              `json:"type"`  // ack, gap, err; empty: the batch has ended
	Sequence uint64              `json:"seq"`   // within the batch, unless it has ended
	Messages uint64              `json:"msgs"`  // of an acknowledgement: the flow from now on
	Batch    string              `json:"batch"` // at the end, for the next
	Count    uint64              `json:"count"` // how many were stored
	Error    *jetstream.APIError `json:"error"`
}

func parseBatchAnswer(m *nats.Msg) (batchAnswer, error) {
	if a, ok := parseFlow(m.Data); ok {
		return a, nil
	}
	var a batchAnswer
	if len(m.Data) == 0 {
		return a, errNoStream
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return a, fmt.Errorf("answer to a batch: %w", err)
	}
	return a, nil
}

// parseFlow reads the acknowledgement of a flow as nats-server writes it; of the
// other answers there are few.
func parseFlow(body []byte) (a batchAnswer, ok bool) {
	rest, found := bytes.CutPrefix(body, []byte(`{"type":"ack","seq":`))
	sequence, rest, _ := bytes.Cut(rest, []byte(`,"msgs":`))
	messages, end, _ := bytes.Cut(rest, []byte("}"))
	if !found || len(end) > 0 {
		return a, false
	}
	var err1, err2 error
	a.Type = "ack"
	a.Sequence, err1 = strconv.ParseUint(string(sequence), 10, 64)
	a.Messages, err2 = strconv.ParseUint(string(messages), 10, 16)
	return a, err1 == nil && err2 == nil
}

var errNoStream = errors.New("no stream takes the subject")
