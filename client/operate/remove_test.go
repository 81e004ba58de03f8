package operate

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A job that is tried again can have failed again before the one that is kept is removed:
// the stream has the new one in its place then.
func TestRetryOfAJobThatFailsAtOnce(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t).Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	failed, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PGBRIDGE_FAILED", Subjects: []string{"pgbridge.failed.>"}, MaxMsgsPerSubject: 1})
	if err != nil {
		t.Fatal(err)
	}
	fail := func() {
		m := nats.NewMsg("pgbridge.failed.x.7")
		m.Header.Set(api.HeaderJobSubject, "pgbridge.job.run.x")
		if _, err := js.PublishMsg(context.Background(), m); err != nil {
			t.Error(err)
		}
	}
	if _, err := nc.Subscribe("pgbridge.job.run.x", func(m *nats.Msg) { // it is run before its sender knows that it is stored
		fail()
		_ = m.Respond([]byte(`{"stream": "PGBRIDGE_JOBS", "seq": 1}`))
	}); err != nil {
		t.Fatal(err)
	}
	fail()
	o, err := New(nc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Retry(t.Context(), "7"); err != nil {
		t.Errorf("Retry = %v", err)
	}
	info, err := failed.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 1 || info.State.LastSeq != 2 {
		t.Errorf("the stream of failed jobs has %d messages up to %d, want the second one", info.State.Msgs, info.State.LastSeq)
	}
	for want := range []error{nil, ErrNoJob} {
		if err := o.remove(t.Context(), failed, 2); (err == nil) != (want == 0) || err != nil && !errors.Is(err, ErrNoJob) {
			t.Errorf("removing it for time %d: %v", want+1, err)
		}
	}
}

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
	if err := deletion(t.Context(), stream, 1); err == nil || !strings.Contains(err.Error(), "does not say") {
		t.Errorf("remove = %v", err)
	}
}
