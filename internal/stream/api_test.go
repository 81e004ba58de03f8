package stream

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestAPIPrefix(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t).Connect(t)
	for _, c := range []struct {
		made func() (jetstream.JetStream, error)
		want string
	}{
		{func() (jetstream.JetStream, error) { return jetstream.New(nc) }, "$JS.API."},
		{func() (jetstream.JetStream, error) { return jetstream.NewWithDomain(nc, "hub") }, "$JS.hub.API."},
		{func() (jetstream.JetStream, error) { return jetstream.NewWithAPIPrefix(nc, "a.b") }, "a.b."},
		{func() (jetstream.JetStream, error) { return jetstream.NewWithAPIPrefix(nc, "a.b.") }, "a.b."},
	} {
		js, err := c.made()
		if err != nil {
			t.Fatal(err)
		}
		if got := APIPrefix(js); got != c.want {
			t.Errorf("APIPrefix() = %q, want %q", got, c.want)
		}
	}
}
