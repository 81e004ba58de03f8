package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// APIPrefix begins the subjects of the API of the JetStream that js uses.
func APIPrefix(js jetstream.JetStream) string {
	o := js.Options()
	switch {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

// After returns the first message of a stream from a sequence on whose subject matches a
// filter, or [jetstream.ErrMsgNotFound]. Unlike the library it returns one whose headers
// cannot be read, without any, and takes no header of the message's own for what JetStream
// says of it. It blocks until JetStream has answered or ctx ends.
func After(ctx context.Context, js jetstream.JetStream, name, filter string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	query, err := json.Marshal(map[string]any{"seq": sequence, "next_by_subj": filter})
	if err != nil {
		return nil, fmt.Errorf("encode a request for a message: %w", err)
	}
	reply, err := js.Conn().RequestWithContext(ctx, APIPrefix(js)+"STREAM.MSG.GET."+name, query)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError
		Message struct {
			Subject string
			Seq     uint64
			Hdrs    []byte
			Data    []byte
			Time    time.Time
		}
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, fmt.Errorf("read the answer of JetStream: %w", err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return nil, answer.Error
	}
	m := answer.Message
	header, err := nats.DecodeHeadersMsg(m.Hdrs)
	if err != nil {
		header = nil // there are none, or such as nobody reads
	}
	return &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Seq, Header: header, Data: m.Data, Time: m.Time}, nil
}
