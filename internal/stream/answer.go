package stream

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Answers reports whether a message can be the answer of a stream of this name to what was
// published for it: an acknowledgement, one of a batch's answers, a refusal, or NATS's word
// that no stream is there. Whoever hears a message that is published knows where its answer
// goes, and can have answers to requests of his own sent there: those of pgbridge, or what
// another stream says to a message of his.
func Answers(m *nats.Msg, name string) bool {
	for key := range m.Header {
		if strings.HasPrefix(key, "Pgbridge-") || strings.HasPrefix(key, "Nats-Service-") {
			return false
		}
	}
	if len(m.Data) == 0 || bytes.HasPrefix(m.Data, []byte(`{"type":"ack",`)) || bytes.HasPrefix(m.Data, []byte(`{"stream":"`+name+`",`)) {
		return true // as most are
	}
	var answer struct {
		Type   string              `json:"type"` // of an answer to a batch that goes on, which names no stream
		Stream string              `json:"stream"`
		Error  *jetstream.APIError `json:"error"`
	}
	if json.Unmarshal(m.Data, &answer) != nil {
		return false
	}
	if answer.Stream == "" {
		return answer.Error != nil || answer.Type == "gap" || answer.Type == "ack"
	}
	return answer.Stream == name
}
