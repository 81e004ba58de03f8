package copier_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(testenv.RunChild(serveChild))
	}
	// When the connection is closed just as an object's first message goes out,
	// the library's own goroutine may read its Go channel when that is nil already.
	// https://github.com/nats-io/nats.go/blob/v1.55.0/jetstream/publish.go#L569
	testenv.Main(m, goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"))
}
