package copier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// New returns a Copier, which does nothing before its Extension is part of a
// Runner. It connects to nothing.
func New(config Config) (*Copier, error) {
	if config.Requests == nil {
		return nil, errors.New("create copier: no NATS connection for requests")
	}
	if config.WindowBytes < 0 || config.Stall < 0 {
		return nil, errors.New("create copier: a window or a stall time is negative")
	}
	js := config.JetStream
	if js == nil {
		var err error
		if js, err = jetstream.New(config.Requests); err != nil {
			return nil, fmt.Errorf("create copier: %w", err)
		}
	}
	types, err := rows.NewCatalog().Types(context.Background(), nil, []uint32{textOID})
	if err != nil {
		return nil, fmt.Errorf("create copier: %w", err)
	}
	return &Copier{config: config.withDefaults(), js: js, text: types[0], metrics: newMetrics()}, nil
}

// Extension is what makes a Runner serve copies: requests to
// <prefix>.copy.<script> and <tx>.copy.<script>, the chunks of uploads, and
// jobs.
func (c *Copier) Extension() txrunner.Extension {
	return &pinned.Extension{
		Name:    verbCopy,
		Accepts: accepts,
		Open:    c.open,
		Job:     c.job,

		CountsEnds: true,

		Verbs: map[string]pinned.Verb{verbData: {Receives: true, Missing: "the copy has ended, or never was"}},
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
func (c *Copier) open(ctx context.Context, task *pinned.Task) {
	k, err := c.newCopying(task, task.Request.MaxChunk())
	switch {
	case err != nil:
		task.Ended(err, time.Since(task.Request.Received))
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
func (c *Copier) job(ctx context.Context, task *pinned.Task) ([]byte, error) {
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

// Describe implements prometheus.Collector.
func (c *Copier) Describe(descs chan<- *prometheus.Desc) {
	for _, one := range c.metrics.all() {
		one.Describe(descs)
	}
}

// Collect implements prometheus.Collector.
func (c *Copier) Collect(values chan<- prometheus.Metric) {
	for _, one := range c.metrics.all() {
		one.Collect(values)
	}
}
