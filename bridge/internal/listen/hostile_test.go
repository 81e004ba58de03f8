package listen

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// hear connects, listens, hears a notification and pings, until the link ends.
func hear(t *testing.T, settings *postgres.Settings) (heard bool) {
	t.Helper()
	targets, err := settings.Targets(t.Context())
	if err != nil {
		t.Error(err)
		return false
	}
	c, err := dialListener(t.Context(), targets[0], "hostile")
	if err != nil {
		return false
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.close()
		if c.prepare() != nil || c.follow(nil, []string{"a", "b"}) != nil {
			return
		}
		if _, err := c.exec("notify", "SELECT pg_catalog.pg_notify('a', 'x'), 7"); err != nil {
			return
		}
		if c.do("ping", c.ping) != nil {
			return
		}
		_, _ = c.exec("an error", "SELECT 1/0")
	}()
	for n := range c.pq.Notify {
		heard = heard || n != nil && n.Channel == "a" && n.Extra == "x"
	}
	<-done
	return heard
}

// lib/pq reads in goroutines of its own, where a panic ends the process.
func TestServerThatBreaksTheProtocol(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	url := pg.NewDatabase(t)
	if !hear(t, parse(t, url)) {
		t.Fatal("nothing is heard from a server that keeps to the protocol")
	}
	testenv.Mangle(t, pg, url, 1, func(url string) { hear(t, parse(t, url)) })
}

func parse(t *testing.T, url string) *postgres.Settings {
	settings, err := postgres.Parse(url, postgres.Options{})
	if err != nil {
		t.Error(err)
	}
	return settings
}
