package postgres

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

// ConfigError is one fault of the connection settings or of a file they name.
// Its text holds neither a password nor the connection string.
type ConfigError struct {
	// Setting is the environment variable, the keyword of the connection string
	// or "password_file"; empty means the connection string as a whole.
	Setting string
	Err     error
}

// Error names the setting and says what is wrong with it.
func (e *ConfigError) Error() string {
	if e.Setting == "" {
		return "connection string: " + e.Err.Error()
	}
	return e.Setting + ": " + e.Err.Error()
}

// Unwrap returns what was wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

func configFault(setting, format string, args ...any) error {
	return &ConfigError{Setting: setting, Err: fmt.Errorf(format, args...)}
}

// environmentFaults names the variables that lib/pq refuses to start with
// (fromEnv in its connector.go), even when they are empty, and PGHOSTADDR,
// which pgx would ignore.
func environmentFaults() []error {
	var faults []error
	for _, name := range []string{
		"PGCHANNELBINDING", "PGGSSDELEGATION", "PGGSSENCMODE", "PGGSSLIB", "PGHOSTADDR",
		"PGKRBSRVNAME", "PGREALM", "PGREQUIREAUTH", "PGREQUIREPEER", "PGREQUIRESSL",
		"PGSSLCERTMODE", "PGSSLCOMPRESSION", "PGSSLCRL", "PGSSLCRLDIR",
	} {
		if _, set := os.LookupEnv(name); set {
			faults = append(faults, configFault(name, "this environment variable is not supported: unset it"))
		}
	}
	return faults
}

// driverFault lets lib/pq read the settings once, because it reads the
// environment too and refuses what pgx overlooks, such as an empty PGPORT.
func driverFault(cc *pgx.ConnConfig) error {
	t := Target{at: endpoint{host: cc.Host, port: cc.Port}, login: cc}
	if _, err := pq.NewConfig(t.DSN("")); err != nil {
		return &ConfigError{Err: fmt.Errorf("refused by the driver for LISTEN; a variable it names must be unset: %w", err)}
	}
	return nil
}

// parseFault takes the reason out of pgx's error and leaves the connection
// string, of which pgx can hide the password only as a best effort. Values are
// left out too: in a malformed string they may be a piece of the password.
func parseFault(connString string, err error) error {
	prefix := pgconn.NewParseConfigError(connString, "", nil).Error()
	reason, known := strings.CutPrefix(err.Error(), prefix)
	if !known {
		return configFault("", "it cannot be read")
	}
	switch {
	case strings.HasPrefix(reason, "failed to parse as URL"), strings.HasPrefix(reason, "invalid port"):
		return configFault("", "it cannot be read as a URL with valid ports: write special characters of user and password as %%40, %%3A, %%2F and so on")
	case strings.HasPrefix(reason, "failed to parse as keyword/value"):
		return configFault("", "it is neither a postgres:// URL nor key=value pairs: write values with spaces as 'a b'")
	case strings.HasPrefix(reason, "failed to configure TLS"), strings.HasPrefix(reason, "failed to read service"):
		return &ConfigError{Err: errors.Unwrap(err)}
	}
	reason, _, _ = strings.Cut(reason, ": ")
	reason, _, _ = strings.Cut(reason, " (")
	return configFault("", "%s", reason)
}

// faultsOf reports what one of the drivers could not honour.
func faultsOf(cc *pgx.ConnConfig) []error {
	var faults []error
	refuse := func(when bool, setting, why string) {
		if when {
			faults = append(faults, configFault(setting, "%s", why))
		}
	}
	refuse(!primaryWillDo(cc.ValidateConnect), "target_session_attrs",
		"notifications need a primary: use primary, read-write or any")
	refuse(cc.User == "", "user", "none is given, and the operating system does not name one")
	refuse(!sendable(cc.User), "user", "it holds a NUL byte or is not UTF-8")
	refuse(!sendable(cc.Database), "dbname", "it holds a NUL byte or is not UTF-8")
	refuse(!sendable(cc.Password), "password", "it holds a NUL byte or is not UTF-8")
	return append(faults, parameterFaults(cc.RuntimeParams)...)
}

// parameterFaults checks what pgx would send to the server as its settings,
// which includes every keyword that pgx does not know.
func parameterFaults(params map[string]string) []error {
	shape := regexp.MustCompile(`^[a-z_][a-z0-9_.$]*$`)
	var faults []error
	for name, value := range params {
		switch {
		case !shape.MatchString(name):
			// Not quoted: it may be the rest of a password with a space in it.
			faults = append(faults, configFault("", "it holds a keyword that is no setting's name"))
		case clientOnly(name):
			faults = append(faults, configFault(name, "not supported: remove it from the connection string"))
		case !sendable(value):
			faults = append(faults, configFault(name, "it holds a NUL byte or is not UTF-8"))
		case name == "client_encoding" && !isUTF8(value):
			faults = append(faults, configFault(name, "only UTF8 is supported"))
		}
	}
	return faults
}

// dropNeedless takes those keywords of libpq's out of the server's settings that ask
// for what both drivers do anyway: neither knows GSSAPI's encryption or compression
// by TLS, and hosts are tried in the order given.
func dropNeedless(params map[string]string) {
	for name, values := range map[string][]string{
		"gssencmode":         {"disable", "prefer"},
		"gssdelegation":      {"0"},
		"load_balance_hosts": {"disable"},
		"sslcompression":     {"0"},
	} {
		if slices.Contains(values, params[name]) {
			delete(params, name)
		}
	}
}

// clientOnly reports whether a name is a keyword of libpq, lib/pq or pgxpool
// that pgx takes for a setting of the server's.
func clientOnly(name string) bool {
	switch name {
	case "authtype", "binary_parameters", "disable_prepared_binary_result", "fallback_application_name",
		"gssdelegation", "gssencmode", "gsslib", "hostaddr", "load_balance_hosts", "replication",
		"requirepeer", "requiressl", "scram_client_key", "scram_server_key", "ssl",
		"ssl_max_protocol_version", "ssl_min_protocol_version", "sslcompression", "sslcrl", "sslcrldir",
		"sslinline", "sslkeylogfile", "tty", "tz":
		return true
	}
	return strings.HasPrefix(name, "pool_") || strings.HasPrefix(name, "oauth_")
}

// primaryWillDo reports whether a primary meets the target_session_attrs that
// pgx turned into validate; nil stands for any.
func primaryWillDo(validate pgconn.ValidateConnectFunc) bool {
	if validate == nil {
		return true
	}
	given := reflect.ValueOf(validate).Pointer()
	return given == reflect.ValueOf(pgconn.ValidateConnectTargetSessionAttrsPrimary).Pointer() ||
		given == reflect.ValueOf(pgconn.ValidateConnectTargetSessionAttrsReadWrite).Pointer()
}

// sendable reports whether both drivers send s as it is: NUL ends a string in
// the protocol, and lib/pq replaces bytes that are not UTF-8.
func sendable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

func isUTF8(encoding string) bool {
	name := strings.NewReplacer("-", "", "_", "").Replace(strings.ToUpper(encoding))
	return name == "UTF8" || name == "UNICODE"
}
