package postgres

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// noPassfile is a path under which no file can be: lib/pq would look for a
// passfile of its own when pgx found no password.
const noPassfile = "/dev/null/none"

// dateStyle is the only one that lib/pq accepts.
const dateStyle = "ISO, MDY"

// endpoint is one way to reach one server.
type endpoint struct {
	network, address string // as net.Dial takes them
	host             string // as the settings name it
	port             uint16
	tls              *tls.Config // nil means no TLS
	direct           bool        // TLS without asking first
	dial             pgconn.DialFunc
}

// Target is one way of connecting lib/pq: one address of one host, with TLS or
// without, and the login. It holds the password of the moment it was made, so
// it is for use at once. Formatting it prints [Target.String].
type Target struct {
	at    endpoint
	login *pgx.ConnConfig
}

// DSN returns the connection string for lib/pq, with the password in it: never
// log it. Connect with it through the target's own [Target.Dialer], which also
// does TLS. An empty applicationName means that of the settings.
//
// It sets every keyword that lib/pq would otherwise take from the environment.
func (t Target) DSN(applicationName string) string {
	params := make(map[string]string)
	maps.Copy(params, t.login.RuntimeParams)
	maps.Copy(params, t.keywords())
	if applicationName != "" {
		params["application_name"] = applicationName
	}
	var dsn strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		fmt.Fprintf(&dsn, "%s='%s' ", name, escape(params[name]))
	}
	return dsn.String()
}

// keywords are those that no setting of the server's may replace.
func (t Target) keywords() map[string]string {
	cc := t.login
	return map[string]string{
		"host":                 t.at.host,
		"port":                 strconv.Itoa(int(t.at.port)),
		"user":                 cc.User,
		"password":             cc.Password,
		"dbname":               cc.Database,
		"passfile":             noPassfile,
		"service":              "",
		"options":              cc.RuntimeParams["options"],
		"application_name":     cc.RuntimeParams["application_name"],
		"client_encoding":      "UTF8",
		"datestyle":            dateStyle,
		"connect_timeout":      strconv.Itoa(int(cc.ConnectTimeout / time.Second)),
		"target_session_attrs": "primary",
		"load_balance_hosts":   "disable",
		"min_protocol_version": protocolVersion(cc.MinProtocolVersion),
		"max_protocol_version": protocolVersion(cc.MaxProtocolVersion),
		"sslmode":              "disable", // the dialer does it
		"sslnegotiation":       "postgres",
		"sslrootcert":          "",
	}
}

// protocolVersion spells out latest, because lib/pq compares versions as text.
func protocolVersion(version string) string {
	if version == "latest" {
		return "3.2"
	}
	return version
}

// escape makes a value safe between single quotes.
func escape(value string) string {
	return strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)
}

// Host returns the host as the settings name it.
func (t Target) Host() string { return t.at.host }

// TLS reports whether the target is tried with TLS.
func (t Target) TLS() bool { return t.at.tls != nil }

// String names the address, and the host where that is a name, for logs.
func (t Target) String() string { return t.at.String() }

// Format prints [Target.String] for every verb: the fields hold a password.
func (t Target) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

func (e endpoint) String() string {
	if e.network == "unix" || strings.HasPrefix(e.address, net.JoinHostPort(e.host, "")) {
		return e.address
	}
	return e.address + " (" + e.host + ")"
}
