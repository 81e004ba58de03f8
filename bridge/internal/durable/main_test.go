package durable

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.ServeChild(serveChild)
	// A fetch that has what it wanted before its batch is full ends at its time
	// limit, seconds later.
	testenv.Main(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*pullConsumer).fetch.func1"))
}
