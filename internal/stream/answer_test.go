package stream_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/stream"
)

// Anybody who hears what is published for a stream knows where the answer goes.
func TestAnswersAreTheStreams(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		header nats.Header
		body   string
		want   bool
	}{
		{"an acknowledgement", nil, `{"stream":"P_EVENTS","seq":7}`, true},
		{"with a domain", nil, `{"stream":"P_EVENTS","domain":"hub","seq":7,"duplicate":true}`, true},
		{"written another way", nil, `{"seq": 7, "stream": "P_EVENTS"}`, true},
		{"the end of a batch", nil, `{"stream":"P_EVENTS","seq":7,"batch":"x-1","count":5}`, true},
		{"a flow", nil, `{"type":"ack","seq":5,"msgs":500}`, true},
		{"a gap in a batch", nil, `{"type":"gap","last_seq":5,"seq":7}`, true},
		{"an error in a batch", nil, `{"type":"err","seq":6,"error":{"code":503,"err_code":10077}}`, true},
		{"a refusal", nil, `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"},"stream":"P_EVENTS","seq":0}`, true},
		{"a refusal that names no stream", nil, `{"error":{"code":503,"err_code":10023}}`, true},
		{"nobody listens", nats.Header{"Status": {"503"}}, ``, true},

		{"another stream's acknowledgement", nil, `{"stream":"P_JOBS","seq":7}`, false},
		{"of one whose name begins alike", nil, `{"stream":"P_EVENTS2","seq":7}`, false},
		{"another stream's refusal", nil, `{"error":{"code":400,"err_code":10054},"stream":"P_JOBS","seq":0}`, false},
		{"the answer to a NOTIFY", nil, `{}`, false},
		{"the answer to a run", nil, `{"results":[{"command":"SELECT 1"}],"attempts":1}`, false},
		{"an error of pgbridge's", nats.Header{"Nats-Service-Error": {"x"}}, `{"error":{"code":"not_found","message":"x","retryable":false}}`, false},
		{"a chunk", nats.Header{"Pgbridge-Seq": {"1"}}, `{"type":"ack","seq":5,"msgs":500}`, false},
		{"a chunk without a header", nil, `5,7`, false},
		{"the end of a copy", nats.Header{"Pgbridge-Rows": {"1"}}, ``, false},
	} {
		if got := stream.Answers(&nats.Msg{Header: tt.header, Data: []byte(tt.body)}, "P_EVENTS"); got != tt.want {
			t.Errorf("%s: Answers() = %t, want %t", tt.name, got, tt.want)
		}
	}
}
