package durable

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// Whoever hears an event knows where its acknowledgement goes, and can have there what
// pgbridge, or another stream, says to requests of his own: it lets go of no event.
func TestAnswersOfOthersLetGoOfNothing(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		`{"stream":"P_JOBS","seq":8}`, // as the event's own would be
		`{"stream":"P_JOBS","seq":9}`,
		`{}`,
		`{"error":{"code":400,"err_code":10054,"description":"too large"},"stream":"P_JOBS","seq":0}`,
	} {
		p := &publisher{Feed: &Feed{NC: &nats.Conn{}}, log: &log{config: StreamOptions{Name: "P_DURABLE"}}, inbox: "_INBOX.x", run: 1, base: 7, routes: &routes{}}
		p.flight.add(flying{Item: event.Item{Kind: event.KindGap}})
		p.flight.sent = 1
		p.acknowledge(&nats.Msg{Subject: p.reply(0), Data: []byte(answer)})
		if p.flight.empty() || p.doubt != nil {
			t.Errorf("after %s the event is let go of: %t, and the doubt is %v", answer, p.flight.empty(), p.doubt)
		}
	}
}
