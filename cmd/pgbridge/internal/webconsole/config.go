package webconsole

import (
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/txrunner"
)

const (
	// maxStreams are open at a time: few enough that probes and scrapers always find
	// a connection.
	maxStreams = 16
	// maxTails of them show events as they come. What waits to be shown is memory that
	// no budget counts.
	maxTails = 4
	// streamFor is how long a stream lasts before its viewer has to ask again, so
	// that nobody keeps a place for ever.
	streamFor = 10 * time.Minute
	// writeFor is how long a viewer may take to read what it was sent.
	writeFor = 10 * time.Second
	// refresh is how often a stream looks whether something has changed.
	refresh = time.Second
	// heartbeat is how often a stream says something at least.
	heartbeat = 10 * time.Second
)

// Config is what a Console shows, and to whom. Bridge and Logger are required.
type Config struct {
	Bridge *bridge.Bridge
	Runner *txrunner.Runner // nil: there is none
	// Problems are why pgbridge is not ready, a line each; empty: it is.
	Problems func() []string
	// Requests is asked for the other replicas. Nil: it is not.
	Requests *nats.Conn
	// Watch opens a connection of its own for a viewer of events. NATS cuts one that
	// is sent more than it takes, which must not be one that requests come on. Nil:
	// events are not shown.
	Watch   func() (*nats.Conn, error)
	Prefix  string // of all subjects
	Version string // of the program
	// Payloads shows the events of a channel as they come, for those who ask.
	Payloads bool
	// Hosts are names by which browsers may ask for it, besides localhost and
	// addresses.
	Hosts  []string
	Logger *zap.Logger
}
