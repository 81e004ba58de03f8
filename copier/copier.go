package copier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

const (
	defaultPrefix   = "pgbridge"
	defaultWindow   = 8 << 20
	defaultStall    = 30 * time.Second
	defaultProgress = time.Second

	verbCopy = "copy"
	verbData = "data"
)

// Config describes a Copier. Requests is required; the zero value of any other
// field means its documented default.
type Config struct {
	// Requests is the connection that the Runner serves its requests on. Copies
	// with objects need JetStream there.
	Requests *nats.Conn
	// Prefix of all subjects. Default pgbridge.
	Prefix string
	// WindowBytes is how much of one copy may be under way, and so in memory;
	// clients may ask for less. Default 8 MiB.
	WindowBytes int
	// Stall is how long a copy waits for a client that does nothing; clients
	// may ask for less. Default 30 s.
	Stall time.Duration
	// ProgressEvery is how often a copy's progress is published. Default 1 s;
	// negative means never.
	ProgressEvery time.Duration
	// Logger receives what no client is told. Nil means none.
	Logger *zap.Logger
}

func (c Config) withDefaults() Config {
	c.Prefix = cmp.Or(c.Prefix, defaultPrefix)
	c.WindowBytes = cmp.Or(c.WindowBytes, defaultWindow)
	c.Stall = cmp.Or(c.Stall, defaultStall)
	c.ProgressEvery = cmp.Or(c.ProgressEvery, defaultProgress)
	c.Logger = cmp.Or(c.Logger, zap.NewNop())
	return c
}

// Copier serves copies. It is safe for concurrent use and a Prometheus
// collector.
type Copier struct {
	config  Config
	js      jetstream.JetStream
	text    *rows.Type // what parameters are passed as
	metrics *metrics

	mu      sync.Mutex // guards the rest
	uploads map[string]*upload
	failed  failures
}

// New returns a Copier, which does nothing before its Extension is part of a
// Runner. It connects to nothing.
func New(config Config) (*Copier, error) {
	if config.Requests == nil {
		return nil, errors.New("create copier: no NATS connection for requests")
	}
	if config.WindowBytes < 0 || config.Stall < 0 {
		return nil, errors.New("create copier: a window or a stall time is negative")
	}
	js, err := jetstream.New(config.Requests)
	if err != nil {
		return nil, fmt.Errorf("create copier: %w", err)
	}
	types, err := rows.NewCatalog().Types(context.Background(), nil, []uint32{textOID})
	if err != nil {
		return nil, fmt.Errorf("create copier: %w", err)
	}
	return &Copier{
		config: config.withDefaults(), js: js, text: types[0], metrics: newMetrics(),
		uploads: make(map[string]*upload),
	}, nil
}

// Extension is what makes a Runner serve copies: requests to
// <prefix>.copy.<script> and <tx>.copy.<script>, the chunks of uploads, and
// jobs.
func (c *Copier) Extension() txrunner.Extension {
	return txrunner.Extension{
		Verb:    verbCopy,
		Accepts: accepts,
		Open:    c.open,
		Job:     c.job,
		Verbs:   map[string]txrunner.Verb{verbData: {Direct: c.deliver}},
	}
}

// Shape is an Extension with the same requests that serves none of them, for
// those who want to know what a Runner subscribes and which streams it needs.
func Shape() txrunner.Extension { return new(Copier).Extension() }

func accepts(s *script.Script) *service.Error {
	if s.Kind != script.Run {
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest, "it holds no COPY; it can be run")
}

// open serves a request for a copy.
func (c *Copier) open(ctx context.Context, task *txrunner.Task) {
	k, err := c.newCopying(task, task.Request.MaxChunk())
	switch {
	case err != nil:
		task.Request.Answer(service.Reply{}, err)
	case k.object != nil:
		k.answer(k.transfer(ctx))
	case task.Identified():
		task.Request.Answer(service.Reply{}, service.Errorf(service.CodeInvalidRequest,
			"a message id goes with a copy from or to an object: the answer to any other is no single reply"))
	case task.Request.ReplySubject() == "":
		task.Request.Answer(service.Reply{}, service.Errorf(service.CodeInvalidRequest,
			"a copy that is from or to no object needs a reply subject"))
	case k.in():
		k.receive(ctx)
	default:
		k.send(ctx)
	}
}

// job does a copy for a job.
func (c *Copier) job(ctx context.Context, task *txrunner.Task) ([]byte, error) {
	k, err := c.newCopying(task, int(c.config.Requests.MaxPayload()))
	if err != nil {
		return nil, err
	}
	if k.object == nil {
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"object\": a copy that is a job needs it")
	}
	reply, err := k.transfer(ctx)
	return reply.Data, err
}
