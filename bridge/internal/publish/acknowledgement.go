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

	"github.com/pgbridge/pgbridge/internal/stream"
)

// acknowledged takes one answer of the stream. Answers to earlier runs say
// nothing about this one.
func (p *StreamPublisher) acknowledged(m *nats.Msg) {
	rest := strings.TrimPrefix(m.Subject, p.inbox+".")
	if p.batchAnswered(m, rest) {
		return
	}
	run, number, err := parseReply(rest)
	if err != nil || run != p.run.number || !p.state.knowsEnd() {
		return
	}
	if !stream.Answers(m, p.Stream.name()) {
		return
	}
	if err := ackError(m); err != nil {
		p.refusedWith(number, err)
		return
	}
	p.flight.ack(number)
	p.run.progress = time.Now()
	p.run.window = min(p.run.window+1, flightItems)
	p.retry.Proved()
}

func parseReply(rest string) (run, number uint64, err error) {
	r, n, _ := strings.Cut(rest, ".")
	run, err1 := strconv.ParseUint(r, 36, 64)
	number, err2 := strconv.ParseUint(n, 36, 64)
	return run, number, errors.Join(err1, err2)
}

// ackError returns the stream's refusal, if it is one.
func ackError(m *nats.Msg) error {
	if len(m.Data) == 0 {
		return errNoStream
	}
	if !bytes.Contains(m.Data, []byte(`"error"`)) {
		return nil
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return fmt.Errorf("acknowledgement: %w", err)
	}
	if answer.Error == nil {
		return nil // a stream named error
	}
	return answer.Error
}
