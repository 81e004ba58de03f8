package txrunner_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.ServeChild(serveChild)
	testenv.Main(m)
}

// world is one with streams.
type world struct {
	*harness.World
	js jetstream.JetStream // nil: not used
}

func newWorld(t testing.TB, scripts map[string]string, hooks ...func(*server.Options)) *world {
	t.Helper()
	return &world{World: harness.New(t, scripts, hooks...)}
}

// rows asks and returns the last result's rows as JSON.
func (w *world) rows(subject, body string, headers ...string) string {
	w.T.Helper()
	return w.Works(subject, body, headers...).LastRows()
}

// fails asks and wants an error with this code.
func (w *world) fails(code, subject, body string, headers ...string) harness.Failure {
	w.T.Helper()
	return *w.Fails(code, subject, body, headers...).Error
}
