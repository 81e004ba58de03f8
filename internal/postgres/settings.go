// Package postgres reads one set of connection settings and serves both
// drivers with it, pgx and lib/pq, so that they always reach the same server as
// the same user under the same TLS rules.
//
// It promises:
//
//   - The connection string means what it means to pgx. lib/pq gets the parsed
//     result: nothing in the environment, a service file or a passfile can make
//     it read something else. What only one of them could honour is refused by
//     [Parse], not ignored.
//   - Every connection reads the password again, and the files that hold
//     certificates, so that a rotated one needs no restart.
//   - Only a primary is accepted: LISTEN does not work on a hot standby.
//   - No error, description or formatted value holds a password.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/pgbridge/pgbridge/internal/files"
	"github.com/pgbridge/pgbridge/internal/inlet"
)

const (
	// defaultConnectTimeout replaces "wait for ever", pgx's and libpq's default.
	defaultConnectTimeout = 5 * time.Second
	// cancelDeadline is how long a cancelled query may take to end before its
	// connection is given up.
	cancelDeadline = 5 * time.Second
	// maxPasswordBytes is far above what any server accepts; it keeps a wrong
	// path from being read into memory.
	maxPasswordBytes = 64 << 10
)

// Options are settings that a connection string does not carry.
type Options struct {
	// PasswordFile holds the password and nothing else; a line end after it is
	// dropped. It is read for every connection and overrides every other
	// password. Empty means that the connection string, PGPASSWORD or a
	// passfile gives it.
	PasswordFile string
	// ApplicationName overrides the connection string's application_name. Empty
	// leaves it.
	ApplicationName string
}

// Settings is one set of connection settings. It does not change after [Parse]
// and is safe for concurrent use. Formatting it prints [Settings.Describe].
type Settings struct {
	connString string
	options    Options

	user     string
	database string
	hosts    []string
}

// Parse reads a connection string, a postgres:// URL or key=value pairs, with
// what the PG* environment variables, a service file and the defaults add to
// it, as pgx does. It reads the certificate files that they name, but not
// [Options.PasswordFile], and connects to nothing.
//
// Its error joins one [*ConfigError] for each fault. A variable that lib/pq
// refuses is a fault, and so is what the two drivers would not treat alike.
func Parse(connString string, o Options) (*Settings, error) {
	s := &Settings{connString: connString, options: o}
	faults := environmentFaults()
	cc, err := s.read()
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, err
	}
	s.user, s.database, s.hosts = cc.User, cc.Database, hostsOf(cc)
	if s.database == "" {
		s.database = s.user // the server's own default
	}
	if err := driverFault(cc); err != nil {
		return nil, err
	}
	return s, nil
}

// read parses the connection string anew, with the environment and the files as
// they are now. It does not look at the password file.
func (s *Settings) read() (*pgx.ConnConfig, error) {
	cc, err := pgx.ParseConfig(s.connString)
	if err != nil {
		return nil, parseFault(s.connString, err)
	}
	cc.RuntimeParams = lowerNames(cc.RuntimeParams)
	dropNeedless(cc.RuntimeParams)
	sockets, faults := takeTCP(cc.RuntimeParams)
	if err := errors.Join(append(faults, faultsOf(cc)...)...); err != nil {
		return nil, err
	}
	s.complete(cc)
	cc.DialFunc = sockets.dialer().DialContext
	return cc, nil
}

// complete sets what holds for every connection, whatever was asked for.
func (s *Settings) complete(cc *pgx.ConnConfig) {
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = defaultConnectTimeout
	}
	if s.options.ApplicationName != "" {
		cc.RuntimeParams["application_name"] = s.options.ApplicationName
	}
	// pgx leaves the encoding to the server, which takes the database's.
	cc.RuntimeParams["client_encoding"] = "UTF8"
	// A role or a database can have another one, in which pgx reads no time.
	cc.RuntimeParams["datestyle"] = dateStyle
	cc.ValidateConnect = isPrimary
	cc.BuildFrontend = inlet.Frontend(nil, "")
	// pgx would keep each, and a function that a script calls can LISTEN.
	cc.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {}
	cc.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: cancelDeadline}
	}
}

// Describe names user, hosts and database, as in "app@db1:5432,db2:5432/shop",
// for logs. It holds no secret.
func (s *Settings) Describe() string {
	return s.user + "@" + strings.Join(s.hosts, ",") + "/" + s.database
}

// User returns the name of the role to log in as.
func (s *Settings) User() string { return s.user }

// Database returns the name of the database.
func (s *Settings) Database() string { return s.database }

// Hosts returns host:port of every server in the order of trying, or
// directory:port for Unix sockets.
func (s *Settings) Hosts() []string { return slices.Clone(s.hosts) }

// String is [Settings.Describe].
func (s *Settings) String() string { return s.Describe() }

// Format prints [Settings.Describe] for every verb: the fields hold a password.
func (s *Settings) Format(f fmt.State, _ rune) {
	if s == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	_, _ = io.WriteString(f, s.Describe())
}

// hostsOf lists every server once; pgx repeats those it tries with and without
// TLS.
func hostsOf(cc *pgx.ConnConfig) []string {
	var hosts []string
	for _, a := range alternatives(cc) {
		host := net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
		if strings.HasPrefix(a.Host, "/") {
			host = a.Host + ":" + strconv.Itoa(int(a.Port))
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// alternatives lists what pgx tries, in its order.
func alternatives(cc *pgx.ConnConfig) []*pgconn.FallbackConfig {
	first := &pgconn.FallbackConfig{Host: cc.Host, Port: cc.Port, TLSConfig: cc.TLSConfig}
	return append([]*pgconn.FallbackConfig{first}, cc.Fallbacks...)
}

// lowerNames spells the names of server settings in one way, so that each is
// found and sent once. PostgreSQL does not tell TimeZone from timezone.
func lowerNames(params map[string]string) map[string]string {
	lower := make(map[string]string, len(params))
	for name, value := range params {
		lower[strings.ToLower(name)] = value
	}
	return lower
}

// readPassword returns what the file holds, without one line end at its end.
func readPassword(path string) (string, error) {
	f, err := files.Open(path)
	if err != nil {
		return "", &ConfigError{Setting: "password_file", Err: err}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPasswordBytes+1))
	if err != nil {
		return "", &ConfigError{Setting: "password_file", Err: err}
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case password == "":
		return "", configFault("password_file", "%s is empty", path)
	case len(b) > maxPasswordBytes:
		return "", configFault("password_file", "%s has more than %d bytes", path, maxPasswordBytes)
	case !sendable(password):
		return "", configFault("password_file", "%s holds a NUL byte or is not UTF-8", path)
	}
	return password, nil
}

// isPrimary is pgconn.ValidateConnectTargetSessionAttrsPrimary, except that no defaults of
// a role or database keep it from being answered: a standby refuses a query where
// transactions are serializable, and a primary has it wait for those of others where they
// are deferrable, too. A server before version 14, which is too old for us, does not know
// the setting: that is for others to say.
func isPrimary(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := ReadRows(ctx, conn, "SHOW in_hot_standby", 1)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "42704": // undefined_object
		return nil
	case err != nil:
		return err
	case len(rows) != 1 || string(rows[0][0]) != "off":
		return pgconn.ErrStandbyConnection
	}
	return nil
}
