package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/client/operate"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/natscli"
	"github.com/pgbridge/pgbridge/internal/natsconn"
)

// clientFlags say which server a client talks to, and who it is there.
type clientFlags struct {
	Config  string `short:"c" placeholder:"FILE" help:"Configuration file (or PGBRIDGE_CONFIG)."`
	Context string `placeholder:"NAME" help:"A context of the nats tool, or a file with one; other flags override what it says. Without any setting of NATS's the selected one is used, if there is one."`
	natsFlags
}

// load returns the configuration as far as a client needs it.
func (f clientFlags) load(p *process) (*config.Config, error) {
	return configFlags{Config: f.Config, natsFlags: f.natsFlags}.sources(p).LoadClient()
}

// remote is a client for a command, with its connection.
type remote struct {
	*client.Client
	*operate.Operator
	process *process
	config  *config.Config
	nc      *nats.Conn
	refusals
}

// connect makes the client of a command with that name; more are further options
// of its connection. It is to be closed.
func (f clientFlags) connect(p *process, name, caller string, more ...nats.Option) (*remote, error) {
	c, err := f.load(p)
	if err != nil {
		return nil, err
	}
	refused := newRefusals(c.Prefix)
	opts := append([]nats.Option{nats.ErrorHandler(refused.hear)}, more...)
	nc, js, err := f.dial(p, c, "pgbridge "+name, opts)
	if err != nil {
		return nil, err
	}
	made, err := client.New(nc, client.Options{Prefix: c.Prefix, Caller: caller, JetStream: js, Retries: -1})
	if err != nil {
		nc.Close()
		return nil, err
	}
	operator, err := operate.New(nc, operate.Options{Prefix: c.Prefix, JetStream: js, Jobs: c.Jobs.Stream.Name, Results: c.Jobs.Results.Name})
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &remote{Client: made, Operator: operator, process: p, config: c, nc: nc, refusals: refused}, nil
}

func (r *remote) close() { r.nc.Close() }

// dial uses a context of the nats tool where one is named, or selected and
// nothing else says where to go.
func (f clientFlags) dial(p *process, c *config.Config, name string, opts []nats.Option) (*nats.Conn, jetstream.JetStream, error) {
	contexts := natscli.At(p.getenv)
	chosen := contexts.Named(f.Context)
	if f.Context == "" && !c.Sets("nats.") {
		chosen = contexts.Selected()
	}
	if chosen.Exists() {
		override, err := f.override()
		if err != nil {
			return nil, nil, err
		}
		nc, js, err := chosen.Connect(slices.Concat(override, opts, []nats.Option{nats.Name(name)})...)
		if err == nil && (f.JSDomain != "" || f.JSPrefix != "") {
			js, err = c.NATS.JetStream(nc)
		}
		return nc, js, err
	}
	nc, err := natsconn.Once(c.NATS, name, opts...)
	if err != nil {
		return nil, nil, err
	}
	js, err := c.NATS.JetStream(nc)
	return nc, js, err
}

// override is what the flags say, for a context.
func (f clientFlags) override() ([]nats.Option, error) {
	s := configFlags{natsFlags: f.natsFlags}.sources(&process{}) // no file and no environment
	c, err := s.LoadClient()
	if err != nil {
		return nil, err
	}
	if f.NATS == "" {
		c.NATS.URLs = nil
	}
	return c.NATS.Override()
}

func (r *remote) say(format string, args ...any) { r.process.say(fmt.Sprintf(format, args...)) }

// answerLimit is for what is answered at once.
const answerLimit = 5 * time.Second
