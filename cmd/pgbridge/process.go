package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// process is what a command gets of its surroundings.
type process struct {
	environ []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
}

// shown is out, which ends at stdout, for results that are not made for people.
func (p *process) shown(out io.Writer) io.Writer {
	return console.Shown(out, console.IsTerminal(p.stdout))
}

// say tells the person at the terminal something, each line of it. What servers have
// said is in it, so nothing in it is obeyed.
func (p *process) say(text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintln(p.stderr, "pgbridge:", console.Printable(strings.TrimRight(line, "\n")))
	}
}

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// fail prints an error, each line of it, and returns its exit code.
func (p *process) fail(err error) int {
	if err == nil {
		return exitOK
	}
	var silent *silentError
	if errors.As(err, &silent) {
		return silent.code
	}
	p.say(err.Error())
	var usage *usageError
	var faulty *config.Error
	if errors.As(err, &usage) || errors.As(err, &faulty) {
		return exitUsage
	}
	return exitFailed
}

// silentError ends a command that has said what is wrong.
type silentError struct{ code int }

func (e *silentError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// natsFlags are the connection flags of the nats tool. Each stands for a key of the
// configuration.
type natsFlags struct {
	NATS        string `name:"server" aliases:"nats" short:"s" placeholder:"URL" help:"NATS server (or PGBRIDGE_NATS_URL)."`
	Creds       string `placeholder:"FILE" help:"Credentials (or PGBRIDGE_NATS_CREDS)."`
	NKey        string `name:"nkey" placeholder:"FILE" help:"File with an nkey's seed (or PGBRIDGE_NATS_NKEY)."`
	User        string `placeholder:"NAME" help:"User (or PGBRIDGE_NATS_USER); the password is better in PGBRIDGE_NATS_PASSWORD than in --password."`
	Password    string `placeholder:"PASSWORD" help:"The user's password."`
	Token       string `placeholder:"TOKEN" help:"Token; it is better in PGBRIDGE_NATS_TOKEN."`
	TLSCert     string `name:"tlscert" aliases:"tls-cert" placeholder:"FILE" help:"The client's certificate."`
	TLSKey      string `name:"tlskey" aliases:"tls-key" placeholder:"FILE" help:"Its key."`
	TLSCA       string `name:"tlsca" aliases:"tls-ca" placeholder:"FILE" help:"What the server's certificate is checked with."`
	TLSFirst    bool   `name:"tlsfirst" aliases:"tls-first" help:"Begin TLS before the server says anything."`
	InboxPrefix string `name:"inbox-prefix" placeholder:"SUBJECT" help:"Where replies go, for users that may subscribe inboxes of their own only."`
	JSDomain    string `name:"js-domain" placeholder:"NAME" help:"JetStream's domain."`
	JSPrefix    string `name:"js-api-prefix" placeholder:"SUBJECT" help:"Subject under which JetStream's API is imported."`
}

// keys are what the flags say besides --server.
func (f natsFlags) keys() []config.Flag {
	var all []config.Flag
	for _, flag := range []config.Flag{
		{Name: "--creds", Key: "nats.creds", Value: f.Creds}, {Name: "--nkey", Key: "nats.nkey", Value: f.NKey},
		{Name: "--user", Key: "nats.user", Value: f.User}, {Name: "--password", Key: "nats.password", Value: f.Password},
		{Name: "--token", Key: "nats.token", Value: f.Token}, {Name: "--tlsca", Key: "nats.tls.ca", Value: f.TLSCA},
		{Name: "--tlscert", Key: "nats.tls.cert", Value: f.TLSCert}, {Name: "--tlskey", Key: "nats.tls.key", Value: f.TLSKey},
		{Name: "--inbox-prefix", Key: "nats.inbox_prefix", Value: f.InboxPrefix},
		{Name: "--js-domain", Key: "nats.jetstream.domain", Value: f.JSDomain}, {Name: "--js-api-prefix", Key: "nats.jetstream.api_prefix", Value: f.JSPrefix},
	} {
		if flag.Value != "" {
			all = append(all, flag)
		}
	}
	if f.TLSFirst {
		all = append(all, config.Flag{Name: "--tlsfirst", Key: "nats.tls.first", Value: "true"})
	}
	return all
}

// configFlags say where the configuration comes from.
type configFlags struct {
	Config   string   `short:"c" placeholder:"FILE" help:"Configuration file (or PGBRIDGE_CONFIG)."`
	Postgres string   `placeholder:"URL" help:"PostgreSQL connection string: postgres.url."`
	Channel  []string `sep:"none" placeholder:"NAME" help:"Listen on this channel too; repeatable."`
	Set      []string `sep:"none" placeholder:"KEY=VALUE" help:"Set any key of the file, as in channels.orders.envelope=json; repeatable."`
	natsFlags
}

func (f configFlags) sources(p *process) config.Sources {
	s := config.Sources{
		File: f.Config, Environ: p.environ,
		Postgres: f.Postgres, NATS: f.NATS, Channels: f.Channel, Set: f.Set, Flags: f.keys(),
	}
	if s.File == "" {
		s.File = p.getenv(config.EnvFile)
	}
	return s
}

// getenv looks a variable up in the environment that run was given.
func (p *process) getenv(name string) string {
	for _, entry := range p.environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
