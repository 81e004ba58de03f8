package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/internal/files"
)

// quote writes a value for a key=value connection string.
func quote(value string) string { return "'" + escape(value) + "'" }

func TestDSNCarriesEveryValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringOf(rapid.RuneFrom([]rune{'\'', '"', '\\', ' ', '=', '%', '@', '\n', '\t', 'a', 'é', '\u2028', '漢'})),
			rapid.String().Filter(sendable),
		)
		named := text.Filter(func(s string) bool { return s != "" })
		host := named.Filter(func(s string) bool { return !strings.ContainsAny(s, ",") }).Draw(t, "host")
		user, password, database, app := named.Draw(t, "user"), named.Draw(t, "password"), text.Draw(t, "database"), named.Draw(t, "app")
		path := text.Draw(t, "search_path")

		s, err := Parse(fmt.Sprintf("host=%s port=6543 user=%s password=%s dbname=%s search_path=%s sslmode=disable options=%s",
			quote(host), quote(user), quote(password), quote(database), quote(path), quote(path)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		cc, err := s.ConnConfig(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		got, err := pq.NewConfig(Target{at: endpoint{host: cc.Host, port: cc.Port}, login: cc}.DSN(app))
		if err != nil {
			t.Fatal(err)
		}
		for _, pair := range [][3]string{
			{"host", got.Host, host}, {"user", got.User, user}, {"password", got.Password, password},
			{"dbname", got.Database, database}, {"application_name", got.ApplicationName, app},
			{"search_path", got.Runtime["search_path"], path}, {"options", got.Options, path},
		} {
			if pair[1] != pair[2] {
				t.Errorf("%s = %q, want %q", pair[0], pair[1], pair[2])
			}
		}
		if got.Port != 6543 || got.SSLMode != pq.SSLModeDisable || got.TargetSessionAttrs != pq.TargetSessionAttrsPrimary {
			t.Errorf("port, sslmode, target_session_attrs = %d, %s, %s", got.Port, got.SSLMode, got.TargetSessionAttrs)
		}
		if got.ConnectTimeout != defaultConnectTimeout {
			t.Errorf("connect_timeout = %s, want %s", got.ConnectTimeout, defaultConnectTimeout)
		}
		if len(got.Runtime) != 1 {
			t.Errorf("server settings = %v, want search_path alone", slices.Collect(maps.Keys(got.Runtime)))
		}
	})
}

func TestEnvironmentCannotOverrideDSN(t *testing.T) {
	s := mustParse(t, "postgres://app:secret@127.0.0.1:6543/shop?sslmode=disable&TimeZone=UTC", Options{ApplicationName: "bridge"})
	target := mustTargets(t, s)[0]
	for name, value := range map[string]string{
		"PGHOST": "other1,other2", "PGPORT": "1,2", "PGUSER": "mallory", "PGPASSWORD": "x", "PGDATABASE": "other",
		"PGAPPNAME": "other", "PGOPTIONS": "-c work_mem=1", "PGSSLMODE": "verify-full", "PGSSLNEGOTIATION": "direct",
		"PGSSLROOTCERT": "system", "PGSSLCERT": "/no/such", "PGSSLKEY": "/no/such", "PGCONNECT_TIMEOUT": "99",
		"PGTARGETSESSIONATTRS": "standby", "PGLOADBALANCEHOSTS": "random", "PGSERVICE": "none", "PGSERVICEFILE": "/no/such",
		"PGPASSFILE": "/no/such", "PGTZ": "Asia/Tokyo", "PGDATESTYLE": "German", "PGCLIENTENCODING": "LATIN1",
		"PGMINPROTOCOLVERSION": "3.2", "PGMAXPROTOCOLVERSION": "3.2",
	} {
		t.Setenv(name, value)
	}
	got, err := pq.NewConfig(target.DSN(""))
	if err != nil {
		t.Fatal(err)
	}
	if got.Host != "127.0.0.1" || got.Port != 6543 || got.User != "app" || got.Password != "secret" || got.Database != "shop" {
		t.Errorf("login = %s:%d %s %s %s", got.Host, got.Port, got.User, got.Password, got.Database)
	}
	if got.ApplicationName != "bridge" || got.Options != "" || got.Service != "" || got.Passfile != noPassfile {
		t.Errorf("application_name, options, service, passfile = %q %q %q %q", got.ApplicationName, got.Options, got.Service, got.Passfile)
	}
	if got.SSLMode != "disable" || got.SSLNegotiation != "postgres" || got.TargetSessionAttrs != "primary" || got.LoadBalanceHosts != "disable" {
		t.Errorf("modes = %s %s %s %s", got.SSLMode, got.SSLNegotiation, got.TargetSessionAttrs, got.LoadBalanceHosts)
	}
	if got.MinProtocolVersion != "3.0" || got.MaxProtocolVersion != "3.0" || got.ConnectTimeout != defaultConnectTimeout {
		t.Errorf("protocol, timeout = %s %s %s", got.MinProtocolVersion, got.MaxProtocolVersion, got.ConnectTimeout)
	}
	if !maps.Equal(got.Runtime, map[string]string{"timezone": "UTC"}) {
		t.Errorf("server settings = %v, want timezone alone", got.Runtime)
	}
}

// What providers and other tools write is taken where it asks for what is done anyway.
func TestParseTakesWhatChangesNothing(t *testing.T) {
	t.Parallel()
	for _, needless := range []string{"gssencmode=disable", "gssencmode=prefer", "gssdelegation=0", "load_balance_hosts=disable", "sslcompression=0"} {
		s, err := Parse("host=127.0.0.1 user=app dbname=shop sslmode=disable "+needless, Options{})
		if err != nil {
			t.Errorf("Parse with %s: %v", needless, err)
			continue
		}
		got, err := pq.NewConfig(mustTargets(t, s)[0].DSN(""))
		if err != nil || len(got.Runtime) != 0 {
			t.Errorf("settings with %s = %v, %v, want none for the server", needless, got.Runtime, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const base = "host=127.0.0.1 user=app sslmode=disable "
	for _, c := range []struct{ connString, setting string }{
		{base + "target_session_attrs=standby", "target_session_attrs"},
		{base + "target_session_attrs=prefer-standby", "target_session_attrs"},
		{base + "target_session_attrs=read-only", "target_session_attrs"},
		{base + "channel_binding=always", ""},
		{base + "sslcrl=/x", "sslcrl"},
		{base + "gssencmode=require", "gssencmode"},
		{base + "load_balance_hosts=random", "load_balance_hosts"},
		{base + "pool_max_conns=3", "pool_max_conns"},
		{base + "keepalives_idle=soon", "keepalives_idle"},
		{base + "tcp_user_timeout=-1", "tcp_user_timeout"},
		{base + "client_encoding=LATIN1", "client_encoding"},
		{base + "bad'keyword=1", ""},
		{"postgres://app@127.0.0.1/?sslmode=disable&x%3D1%20host=evil", ""},
		{"postgres://app:%FF@127.0.0.1/?sslmode=disable", "password"},
		{base + "sslmode=verify-full sslrootcert=/no/such/ca", ""},
		{base + "connect_timeout=soon", ""},
		{"postgres://app@127.0.0.1:port/", ""},
		{"nonsense", ""},
	} {
		_, err := Parse(c.connString, Options{})
		var fault *ConfigError
		if !errors.As(err, &fault) || fault.Setting != c.setting {
			t.Errorf("Parse(%q) = %v, want a fault of %q", c.connString, err, c.setting)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	for _, attrs := range []string{"", "any", "primary", "read-write"} {
		query := url.Values{"sslmode": {"disable"}}
		if attrs != "" {
			query.Set("target_session_attrs", attrs)
		}
		if _, err := Parse("postgres://app@127.0.0.1/?"+query.Encode(), Options{}); err != nil {
			t.Errorf("target_session_attrs %q: %v", attrs, err)
		}
	}
}

func TestParseNamesEveryVariableToUnset(t *testing.T) {
	names := []string{
		"PGREQUIRESSL", "PGSSLCOMPRESSION", "PGREALM", "PGGSSENCMODE", "PGGSSDELEGATION", "PGGSSLIB", "PGREQUIREAUTH",
		"PGCHANNELBINDING", "PGSSLCERTMODE", "PGSSLCRL", "PGSSLCRLDIR", "PGREQUIREPEER", "PGKRBSRVNAME", "PGHOSTADDR",
	}
	for _, name := range names {
		t.Setenv(name, "")
	}
	_, err := Parse("postgres://app@127.0.0.1/?sslmode=disable", Options{})
	for _, name := range names {
		if err == nil || !strings.Contains(err.Error(), name+": this environment variable is not supported: unset it") {
			t.Errorf("Parse = %v, want %s named", err, name)
		}
	}
}

// lib/pq takes an empty PGPORT for a wrong number, pgx for none.
func TestParseFindsWhatOnlyTheOtherDriverRefuses(t *testing.T) {
	t.Setenv("PGPORT", "")
	_, err := Parse("postgres://app@127.0.0.1/?sslmode=disable", Options{})
	if err == nil || !strings.Contains(err.Error(), "PGPORT") {
		t.Errorf("Parse = %v, want PGPORT named", err)
	}
}

func TestErrorsAndFormatsHoldNoPassword(t *testing.T) {
	t.Parallel()
	for _, format := range []string{
		"postgres://u:%s@h:p/db", "postgres://u:a?%s@h/db", "postgres://u:a/%s@h/db", "postgres://u:a#%s@h:x/db",
		"postgres://u:a@%s@h:x/db", "postgres://u:%s%%zz@h/db", "postgres://u:%s@h/db?sslmode=nonsense",
		"postgres://u:%s@h/db?target_session_attrs=standby&sslcrl=x", "postgres://u:a?connect_timeout=%s@h/db",
		"host=h password=%s user", "host=h password=a %s user=x", "host=h password='a%s", "host=h password=a b'%s=1",
		"host=h password=%s target_session_attrs=what", "password=%s sslrootcert=/no/such",
	} {
		connString := fmt.Sprintf(format, "hunter2")
		s, err := Parse(connString, Options{})
		if text := fmt.Sprintf("%v %v %+v %#v", s, err, err, Explain(err)); strings.Contains(text, "hunter2") {
			t.Errorf("Parse(%q) tells the password: %s", connString, text)
		}
		var whole *pgconn.ParseConfigError // carries the connection string
		if errors.As(err, &whole) {
			t.Errorf("Parse(%q) wraps pgx's error", connString)
		}
	}
	s := mustParse(t, "postgres://u:hunter2@127.0.0.1/db?sslmode=disable", Options{})
	target := mustTargets(t, s)[0]
	d := target.Dialer(t.Context(), "")
	defer d.Close()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if text := fmt.Sprintf(strings.Repeat(verb+" ", 3), s, target, d); strings.Contains(text, "hunter2") {
			t.Errorf("%s tells the password: %s", verb, text)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for connString, want := range map[string]string{
		"postgres://app:x@db1:6000,db2/shop":               "app@db1:6000,db2:5432/shop",
		"postgres://app@[::1]/?sslmode=disable":            "app@[::1]:5432/app",
		"host=/run/pg user=app dbname=shop port=1":         "app@/run/pg:1/shop",
		"host=a,b port=7 user=app dbname=x sslmode=prefer": "app@a:7,b:7/x",
	} {
		if got := mustParse(t, connString, Options{}).Describe(); got != want {
			t.Errorf("Describe(%q) = %q, want %q", connString, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "host=a,/run/pg user=app sslmode=prefer max_protocol_version=latest", Options{})
	if s.User() != "app" || s.Database() != "app" || !slices.Equal(s.Hosts(), []string{"a:5432", "/run/pg:5432"}) {
		t.Errorf("user, database, hosts = %s, %s, %q", s.User(), s.Database(), s.Hosts())
	}
}

func TestTargetsAreWhatPgxTries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		connString string
		want       []string
	}{
		{"host=127.0.0.1,127.0.0.2 port=1,2 user=a sslmode=disable", []string{"127.0.0.1:1 false", "127.0.0.2:2 false"}},
		{"host=127.0.0.1,/run/pg port=1 user=a sslmode=prefer", []string{"127.0.0.1:1 true", "127.0.0.1:1 false", "/run/pg/.s.PGSQL.1 false"}},
		{"host=127.0.0.1 port=1 user=a sslmode=allow", []string{"127.0.0.1:1 false", "127.0.0.1:1 true"}},
		{"host=127.0.0.1,no-such-host.invalid port=1 user=a sslmode=require", []string{"127.0.0.1:1 true"}},
	} {
		var got []string
		for _, target := range mustTargets(t, mustParse(t, c.connString, Options{})) {
			got = append(got, fmt.Sprint(target, " ", target.TLS()))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("Targets(%q) = %q, want %q", c.connString, got, c.want)
		}
	}
	_, err := mustParse(t, "host=no-such-host.invalid user=a", Options{}).Targets(deadline(t))
	if got := Explain(err).Kind; got != KindName {
		t.Errorf("Targets of an unknown host: %v is %q, want %q", err, got, KindName)
	}
}

func TestPasswordSources(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, passfile := filepath.Join(dir, "password"), filepath.Join(dir, "passfile")
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil { // group-readable, as fsGroup makes it
			t.Fatal(err)
		}
	}
	password := func(s *Settings) string {
		t.Helper()
		cc, err := s.ConnConfig(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := pq.NewConfig(mustTargets(t, s)[0].DSN(""))
		if err != nil {
			t.Fatal(err)
		}
		if got.Password != cc.Password {
			t.Errorf("lib/pq's password %q, pgx's %q", got.Password, cc.Password)
		}
		return cc.Password
	}
	write(passfile, "127.0.0.1:5432:shop:app:from\\:passfile\n")
	write(file, "from file\r\n")
	base := "postgres://app@127.0.0.1/shop?sslmode=disable&passfile=" + url.QueryEscape(passfile)
	if got := password(mustParse(t, base, Options{})); got != "from:passfile" {
		t.Errorf("password = %q, want that of the passfile", got)
	}
	s := mustParse(t, base, Options{PasswordFile: file})
	if got := password(s); got != "from file" {
		t.Errorf("password = %q, want that of the password file", got)
	}
	write(file, "rotated")
	if got := password(s); got != "rotated" {
		t.Errorf("password = %q, want the rotated one", got)
	}
	for _, content := range []string{"", "\n", "a\x00b", "\xff", strings.Repeat("x", maxPasswordBytes+1)} {
		write(file, content)
		if _, err := s.ConnConfig(t.Context()); Explain(err).Kind != KindConfig {
			t.Errorf("ConnConfig with a password file of %d bytes: %v, want a fault", len(content), err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Targets(deadline(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Targets without the password file = %v, want %v", err, os.ErrNotExist)
	}
	if err := syscall.Mkfifo(file, 0o600); err != nil { // nobody writes into it
		t.Fatal(err)
	}
	if _, err := s.ConnConfig(t.Context()); !errors.Is(err, files.ErrNotRegular) {
		t.Errorf("ConnConfig with a pipe for a password file = %v, want %v", err, files.ErrNotRegular)
	}
}
