package publish

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// FuzzAcknowledgement wants no panic of anything that comes to the inbox, to
// which others may publish too, and no success without a stream's word.
func FuzzAcknowledgement(f *testing.F) {
	f.Add("1.2", "", []byte(`{"stream":"EVENTS","seq":1}`))
	f.Add("zz.10", "503", []byte{})
	f.Add("", "", []byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"}}`))
	f.Add("..", "", []byte(`{"seq":18446744073709551616}`))
	f.Add("-1.-1", "", []byte(`null`))
	f.Fuzz(func(t *testing.T, rest, status string, data []byte) {
		_, _, _ = parseReply(rest)
		m := &nats.Msg{Data: data}
		if status != "" {
			m.Header = nats.Header{"Status": {status}}
		}
		if err := ackError(m); err == nil && len(data) == 0 {
			t.Errorf("an empty message with status %q is an acknowledgement", status)
		}
	})
}
