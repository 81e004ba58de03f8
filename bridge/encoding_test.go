package bridge_test

import (
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// encoded makes a database of another encoding and returns its URL.
func encoded(t *testing.T, encoding string) string {
	t.Helper()
	pg := testenv.Postgres(t)
	name := "e_" + strings.ToLower(rand.Text())[:12]
	testenv.Exec(t, pg.URL(), "CREATE DATABASE "+name+" TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING '"+encoding+"'")
	t.Cleanup(func() { testenv.Exec(t, pg.URL(), "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// A payload that cannot be UTF-8 arrives as it is, and ends nothing.
func TestPayloadsThatAreNotUTF8(t *testing.T) {
	t.Parallel()
	for encoding, wants := range map[string]map[string]string{
		"SQL_ASCII": {"e9": "\xe9", "c3a9": "é", "ff fe 41": "\xff\xfeA"},
		"WIN1252":   {"e9": "é", "81": "\x81", "41 8d e9": "A\x8d\xe9", "80": "€"},
		"LATIN1":    {"e9 81": "é\u0081"},
		"EUC_JP":    {"a4a2": "あ"},
		"UTF8":      {"c3a9": "é"},
	} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.pg = encoded(t, encoding)
			r := launch(t, w.config(t, map[string]bridge.Channel{"orders": {}})).ready(t)
			for hex, want := range wants {
				notifyBytes(t, w.pg, hex)
				w.heard.awaitEvent(t, "pgbridge.event.orders", want)
			}
			if n := len(w.heard.gaps(t, "orders")); n != 1 {
				t.Errorf("%d gaps, want the one of the start", n)
			}
			if p := r.Problems(); len(p) > 0 {
				t.Errorf("Problems() = %q, want none", p)
			}
		})
	}
}

// notifyBytes sends a payload of bytes in the database's own encoding.
func notifyBytes(t *testing.T, pg, hex string) {
	t.Helper()
	testenv.Exec(t, pg, `SET client_encoding = 'SQL_ASCII';
		DO $$ BEGIN PERFORM pg_notify('orders', convert_from(decode('`+hex+`', 'hex'), getdatabaseencoding())); END $$`)
}

// A channel's name is converted like the rest.
func TestChannelNameInAnotherEncoding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pg = encoded(t, "WIN1252")
	launch(t, w.config(t, map[string]bridge.Channel{"grün €": {}, "plain": {}})).ready(t)
	testenv.Exec(t, w.pg, `SELECT pg_notify(convert_from(decode('6772c3bc6e20e282ac', 'hex'), 'UTF8'), 'x')`)
	w.heard.awaitEvent(t, "pgbridge.event.gr%C3%BCn%20%E2%82%AC", "x")
}
