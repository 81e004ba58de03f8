package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	neturl "net/url"
	"regexp"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/internal/postgres"
)

type notifyCmd struct {
	clientFlags
	Postgres string `placeholder:"URL" help:"Notify in this database itself, without NATS and whatever the configuration allows."`
	Durable  bool   `help:"With --postgres: write to a durable channel, as pgbridge.notify does."`
	Channel  string `arg:"" help:"The channel."`
	Payload  string `arg:"" optional:"" help:"The payload; - reads it from stdin. Default: none."`
}

// Help shows examples.
func (notifyCmd) Help() string {
	return `Notifies a channel, and returns when PostgreSQL has committed it. Through NATS the
channel needs "notify: true" in the configuration.

Examples:

    pgbridge notify orders '{"id": 7}'
    date | pgbridge notify orders -
    pgbridge notify --postgres postgres://app@localhost/app refresh
    pgbridge notify --postgres postgres://app@localhost/app --durable billing paid`
}

// Run notifies.
func (cmd notifyCmd) Run(ctx context.Context, p *process) error {
	if cmd.Durable && cmd.Postgres == "" {
		return &usageError{errors.New("--durable goes with --postgres: through NATS the configuration knows what a channel is")}
	}
	payload := []byte(cmd.Payload)
	if cmd.Payload == "-" {
		var err error
		if payload, err = io.ReadAll(p.stdin); err != nil {
			return fmt.Errorf("read the payload: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*answerLimit)
	defer cancel()
	if cmd.Postgres != "" {
		return cmd.inPostgres(ctx, p, string(payload))
	}
	r, err := cmd.connect(p, "notify", "")
	if err != nil {
		return err
	}
	defer r.close()
	ctx, done := r.whileAllowed(ctx)
	defer done()
	err = r.Notify(ctx, cmd.Channel, payload)
	if failure, ok := client.AsError(err); ok {
		(&console.Replies{Notes: p.stderr}).PrintError(failure)
		return &silentError{exitFailed}
	}
	return err
}

func (cmd notifyCmd) inPostgres(ctx context.Context, p *process, payload string) error {
	s := configFlags{Config: cmd.Config, Postgres: cmd.Postgres}.sources(p)
	c, err := s.LoadClient()
	if err != nil {
		return err
	}
	sql := "SELECT pg_catalog.pg_notify($1, $2)"
	if cmd.Durable {
		sql = "SELECT pgbridge.notify($1::pg_catalog.text, $2::pg_catalog.text)"
	}
	return onDatabase(ctx, c, func(conn *pgx.Conn, _ *postgres.Settings) error {
		if _, err := conn.Exec(ctx, sql, cmd.Channel, payload); err != nil {
			return fmt.Errorf("notify: %s", postgres.Reason(err))
		}
		return nil
	})
}

// notifyLine is a shell command that notifies. The password of somebody
// else's database stays out of it: psql will ask. That of a throw-away server is in the
// environment, since every user of the machine can read a command line.
func notifyLine(psql, url string, foreign bool, channel string) string {
	if console.LookUp("psql") != "" {
		psql = "psql"
	}
	environment := ""
	if foreign {
		url = config.MaskConnString(url)
	} else if u, err := neturl.Parse(url); err == nil {
		if password, given := u.User.Password(); given {
			environment = "PGPASSWORD=" + console.ShellWord(password) + " "
			u.User = neturl.User(u.User.Username())
			url = u.String()
		}
	}
	if !regexp.MustCompile(`^[a-z_][a-z0-9_]*$`).MatchString(channel) {
		channel = pgx.Identifier{channel}.Sanitize()
	}
	sql := "NOTIFY " + channel + ", 'hello'"
	return environment + console.ShellWord(psql) + " " + console.ShellWord(url) + " -c " + console.ShellWord(sql)
}

func notify(ctx context.Context, s *postgres.Settings, channel, payload string) error {
	conn, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	_, err = conn.Exec(ctx, "SELECT pg_catalog.pg_notify($1, $2)", channel, payload)
	return err
}
