package operate

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Whoever answers in JetStream's stead says what they like.
func TestAnswerThatSaysNothing(t *testing.T) {
	t.Parallel()
	s := testenv.NATS(t, func(o *server.Options) { o.JetStream = false })
	liar := s.Connect(t)
	if _, err := liar.Subscribe("$JS.API.STREAM.>", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"config": {"name": "A"}, "state": {}}`))
	}); err != nil {
		t.Fatal(err)
	}
	if err := liar.Flush(); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(s.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "A")
	if err != nil {
		t.Fatal(err)
	}
	if err := remove(t.Context(), stream, 1); err == nil || !strings.Contains(err.Error(), "does not say") {
		t.Errorf("remove = %v", err)
	}
}
