package bridge_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Over a long line the end of a stream is found behind many messages of a
// stranger's: what is asked is asked at once, within the time that there is.
func TestStreamEndOverALongLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.createStream(t, jetstream.StreamConfig{Subjects: []string{"pgbridge.event.audit", "pgbridge.gap.audit"}})
	js, err := jetstream.New(connect(t, w.nats))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 150 {
		if _, err := js.Publish(ctx, "pgbridge.event.audit", []byte("a stranger's")); err != nil {
			t.Fatal(err)
		}
	}
	line, err := testenv.NewDelay(parsed(t, w.nats).Host, 40*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Close)
	far := url.URL{Scheme: "nats", Host: line.Addr()}
	config := w.config(t, map[string]bridge.Channel{"audit": {Delivery: bridge.DeliveryJetStream}})
	config.Events, config.Requests = connect(t, far.String()), connect(t, far.String())
	launch(t, config).ready(t)
	testenv.Exec(t, w.pg, "SELECT pg_notify('audit', 'ours')")
	w.heard.awaitEvent(t, "pgbridge.event.audit", "ours")
}
