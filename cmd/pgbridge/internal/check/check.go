// Package check is what pgbridge check looks at: whether both servers allow what
// a configuration asks for, and what PostgreSQL makes of its scripts. It leaves
// nothing on the servers and sends no event.
package check

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/internal/postgres"
)

// Run writes one line for each check and returns how many were made and how
// many of them failed. With offline it looks at the configuration and the
// scripts only; standby, if not empty, is the URL of a server that may be promoted.
// Where notes leads to a terminal it shows how far it is. It blocks for as long as the
// servers take to answer, which is bounded.
func Run(ctx context.Context, c *config.Config, offline bool, standby string, out, notes io.Writer) (made, failed int) {
	r := &report{out: out, notes: notes, standby: standby}
	r.configuration(c)
	if offline {
		parseScripts(c, r)
	} else {
		checkPostgres(ctx, c, r)
		prepareScripts(ctx, c, r)
		checkNATS(ctx, c, r)
	}
	return r.count, r.failed
}

// configuration lists what was set, with secrets masked, and from where.
func (r *report) configuration(c *config.Config) {
	r.heading("Configuration: ok")
	for _, g := range c.Given() {
		r.detail(g.Key, fmt.Sprintf("%s  (%s)", g.Value, g.Origin))
	}
	for _, name := range c.ChannelNames() {
		r.detail("channels."+name, describeChannel(c, name))
	}
}

func describeChannel(c *config.Config, name string) string {
	ch := c.Channels[name]
	event, _ := c.SubjectsOf(name)
	words := []string{"→ " + event}
	if ch.Envelope != "" {
		words = append(words, "envelope "+string(ch.Envelope))
	}
	if ch.Delivery != "" {
		words = append(words, "delivery "+string(ch.Delivery))
	}
	if ch.Durable {
		words = append(words, "durable")
	}
	if ch.CatchUp != "" {
		words = append(words, "catch_up "+ch.CatchUp)
	}
	if ch.Notify {
		words = append(words, "notify")
	}
	return strings.Join(words, ", ")
}

// checkPostgres reports what the database allows.
func checkPostgres(ctx context.Context, c *config.Config, r *report) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r.heading("PostgreSQL")
	settings, err := postgres.Parse(c.Postgres.URL, c.PostgresOptions())
	if err != nil {
		r.fail("settings", "%s", firstLine(err))
		return
	}
	conn, err := settings.Connect(ctx)
	if err != nil {
		r.fail("reachable", "%s: %s", settings.Describe(), postgres.Reason(err))
		return
	}
	defer postgres.Close(ctx, conn)
	r.ok("reachable", "%s, a primary", settings.Describe())
	k := postgresCheck{r, settings, conn}
	k.version(ctx)
	k.encoding(ctx)
	k.direct(ctx)
	k.privilege(ctx)
	k.roundTrip(ctx)
	k.verdict("sessions for events", "", bridge.CheckSessions(ctx, c.Bridge()))
	k.queue(ctx)
	k.ages(ctx, c)
	if c.HasDurable() {
		k.durable(ctx, c, r.standby)
	}
	if c.Runs() {
		k.verdict("sessions for requests", "", openSession(ctx, settings))
		k.messageIDs(ctx, c.TakeJobs)
	}
	checkOtherUser(ctx, c, r)
}
