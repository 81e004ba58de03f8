package postgres

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func startServer(t *testing.T, settings map[string]string, files map[string][]byte) *pgserver.Server {
	t.Helper()
	return testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: settings, Files: files}).Server()
}

// startTLS starts a server with a certificate for localhost that wants TLS and
// a password, and a client certificate of the role robot.
func startTLS(t *testing.T, ca, own *credential) *pgserver.Server {
	t.Helper()
	s := startServer(t, map[string]string{"ssl": "on", "ssl_ca_file": "ca.pem"}, map[string][]byte{
		"server.crt": own.certPEM, "server.key": own.keyPEM, "ca.pem": ca.certPEM,
		"pg_hba.conf": []byte("local all all scram-sha-256\nhostssl all robot all cert\nhostssl all all all scram-sha-256\n"),
	})
	administer(t, s, "CREATE ROLE robot LOGIN")
	return s
}

// administer runs a statement as the superuser, on the socket.
func administer(t *testing.T, s *pgserver.Server, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(deadline(t), keywords(s, s.SocketDir(), "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(deadline(t))
	for _, statement := range statements {
		if _, err := conn.Exec(deadline(t), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// keywords is the superuser's connection string for one host.
func keywords(s *pgserver.Server, host, database string) string {
	return fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s ",
		host, s.Port(), s.Superuser(), quote(s.Password()), database)
}

// answer is what one driver got: the first column of a query, or an error.
type answer struct {
	value string
	err   error
}

// ask sends a query through each driver, on connections made for it.
func ask(t *testing.T, s *Settings, query string) map[string]answer {
	t.Helper()
	ctx := deadline(t)
	answers := make(map[string]answer)
	value, err := askPgx(ctx, s, query)
	answers["pgx"] = answer{value, err}
	value, err = askPool(ctx, s, query)
	answers["pool"] = answer{value, err}
	value, err = askPq(ctx, s, query)
	answers["lib/pq"] = answer{value, err}
	return answers
}

func askPgx(ctx context.Context, s *Settings, query string) (value string, err error) {
	cc, err := s.ConnConfig(ctx)
	if err != nil {
		return "", err
	}
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	return value, conn.QueryRow(ctx, query).Scan(&value)
}

func askPool(ctx context.Context, s *Settings, query string) (value string, err error) {
	config, err := s.PoolConfig(1)
	if err != nil {
		return "", err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	return value, pool.QueryRow(ctx, query).Scan(&value)
}

// askPq walks through the targets as a listener does.
func askPq(ctx context.Context, s *Settings, query string) (string, error) {
	targets, err := s.Targets(ctx)
	if err != nil {
		return "", err
	}
	var faults []error
	for _, target := range targets {
		value, err := askTarget(ctx, target, query)
		if err == nil {
			return value, nil
		}
		if faults = append(faults, err); Final(err) {
			break
		}
	}
	return "", errors.Join(faults...)
}

func askTarget(ctx context.Context, target Target, query string) (value string, err error) {
	connector, err := pq.NewConnector(target.DSN("through lib/pq"))
	if err != nil {
		return "", err
	}
	d := target.Dialer(ctx, "")
	defer d.Close()
	connector.Dialer(d)
	db := sql.OpenDB(connector)
	defer db.Close()
	return value, db.QueryRowContext(ctx, query).Scan(&value)
}

func wantValue(t *testing.T, s *Settings, query, want string) {
	t.Helper()
	for driver, got := range ask(t, s, query) {
		if got.err != nil || got.value != want {
			t.Errorf("%s: %s = %q, %v, want %q", driver, query, got.value, got.err, want)
		}
	}
}

func wantFault(t *testing.T, s *Settings, want Kind, hint string) {
	t.Helper()
	for driver, got := range ask(t, s, "SELECT 'connected'") {
		if f := Explain(got.err); f.Kind != want || !strings.Contains(f.Hint, hint) {
			t.Errorf("%s: %v, explained as %s, want %q with %q", driver, got.err, f, want, hint)
		}
	}
}

// wantClientCertificateFault allows two kinds: under TLS 1.3 the server refuses
// the certificate when the client already sends, and a reset of the connection
// may overtake the reason.
func wantClientCertificateFault(t *testing.T, s *Settings) {
	t.Helper()
	for driver, got := range ask(t, s, "SELECT 'connected'") {
		if f := Explain(got.err); f.Kind != KindTLS && f.Kind != KindLost || !strings.Contains(f.Hint, "client certificate") {
			t.Errorf("%s: %v, explained as %s, want a hint at the client certificate", driver, got.err, f)
		}
	}
}

const withTLS = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

func TestServerWithoutTLS(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil, nil)
	administer(t, server, "CREATE ROLE app LOGIN PASSWORD 'old' CONNECTION LIMIT 0",
		"CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM public", "CREATE ROLE other LOGIN PASSWORD 'x'",
		"CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	tcp := keywords(server, "127.0.0.1", "postgres")
	port := strconv.Itoa(server.Port())

	for name, connString := range map[string]string{
		"no TLS":         tcp + "sslmode=disable",
		"TLS if offered": tcp + "sslmode=prefer",
		"TLS if needed":  tcp + "sslmode=allow",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantValue(t, mustParse(t, connString, Options{}), withTLS, "false")
		})
	}
	t.Run("socket", func(t *testing.T) {
		t.Parallel()
		s := mustParse(t, keywords(server, server.SocketDir(), "postgres"), Options{})
		wantValue(t, s, "SELECT coalesce(host(inet_client_addr()), 'socket')", "socket")
	})
	t.Run("settings", func(t *testing.T) {
		t.Parallel()
		s := mustParse(t, tcp+"sslmode=disable options='-c work_mem=5MB' TimeZone=Asia/Tokyo search_path="+quote(`"a'b\"`), Options{})
		wantValue(t, s, "SELECT concat_ws(' ', current_setting('work_mem'), current_setting('search_path'), current_setting('timezone'))",
			`5MB "a'b\" Asia/Tokyo`)
	})
	t.Run("encoding", func(t *testing.T) {
		t.Parallel()
		wantValue(t, mustParse(t, keywords(server, "127.0.0.1", "latin")+"sslmode=disable", Options{}), "SELECT chr(233)", "é")
	})
	t.Run("second host", func(t *testing.T) {
		t.Parallel()
		s := mustParse(t, fmt.Sprintf("postgres://%s:%s@127.0.0.1:1,127.0.0.1:%s/postgres?sslmode=disable",
			server.Superuser(), server.Password(), port), Options{})
		wantValue(t, s, "SELECT 'connected'", "connected")
	})
	t.Run("faults", func(t *testing.T) {
		t.Parallel()
		login := func(user, password, database string) *Settings {
			return mustParse(t, fmt.Sprintf("host=127.0.0.1 port=%s user=%s password=%s dbname=%s sslmode=disable", port, user, quote(password), database), Options{})
		}
		wantFault(t, mustParse(t, tcp+"sslmode=require", Options{}), KindTLS, "does not offer TLS")
		wantFault(t, mustParse(t, tcp+"sslmode=disable no_such_setting=1", Options{}), KindParameter, `parameter "no_such_setting"`)
		wantFault(t, mustParse(t, keywords(server, "127.0.0.1", "nowhere")+"sslmode=prefer", Options{}), KindDatabase, "")
		wantFault(t, mustParse(t, "host=127.0.0.1 port=1 user=a sslmode=prefer", Options{}), KindUnreachable, "nothing listens")
		wantFault(t, mustParse(t, "host=/no/such/folder user=a", Options{}), KindUnreachable, "nothing listens")
		wantFault(t, login("other", "", "postgres"), KindPassword, "correct the password")
		wantFault(t, login("other", "x", "closed"), KindPrivilege, "GRANT CONNECT")
		wantFault(t, login("app", "old", "postgres"), KindTooMany, "CONNECTION LIMIT")
	})
}

func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil, nil)
	administer(t, server, `CREATE ROLE app LOGIN PASSWORD 'new ''\ é'`, "CREATE ROLE nologin PASSWORD 'x'")
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old\n")
	s := mustParse(t, fmt.Sprintf("host=127.0.0.1 port=%d user=app dbname=postgres sslmode=prefer", server.Port()), Options{PasswordFile: file, ApplicationName: "bridge"})
	config, err := s.PoolConfig(1)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(deadline(t), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	wantFault(t, s, KindPassword, "")
	if err := pool.Ping(deadline(t)); !Refused(err) {
		t.Errorf("Ping with the old password = %v, want it refused", err)
	}
	write("new '\\ é\n")
	wantValue(t, s, "SELECT current_user::text", "app")
	if err := pool.Ping(deadline(t)); err != nil {
		t.Errorf("Ping with the new password: %v", err)
	}
	if got, err := askPgx(deadline(t), s, "SHOW application_name"); got != "bridge" {
		t.Errorf("application_name = %q, %v, want bridge", got, err)
	}
	write("x")
	wantFault(t, mustParse(t, fmt.Sprintf("host=127.0.0.1 port=%d user=nologin dbname=postgres sslmode=disable", server.Port()), Options{PasswordFile: file}), KindRole, "LOGIN")
}

func TestServerWithTLS(t *testing.T) {
	t.Parallel()
	ca, foreign := newAuthority(t), newAuthority(t)
	server := startTLS(t, ca, ca.issue(t, "localhost"))
	root := " sslrootcert=" + quote(ca.file(t))
	full := keywords(server, "localhost", "postgres") + "sslmode=verify-full"
	client := func(c *credential) string {
		path := c.file(t)
		return fmt.Sprintf("host=localhost port=%d user=robot dbname=postgres sslmode=verify-full sslcert=%s sslkey=%s", server.Port(), quote(path), quote(path+".key")) + root
	}
	// localhost may have two addresses, of which only 127.0.0.1 is listened on.
	wantValue(t, mustParse(t, full+root, Options{}), withTLS, "true")
	wantValue(t, mustParse(t, keywords(server, "127.0.0.1", "postgres")+"sslmode=verify-ca"+root, Options{}), withTLS, "true")
	wantValue(t, mustParse(t, keywords(server, "127.0.0.1", "postgres")+"sslmode=allow", Options{}), withTLS, "true")
	wantValue(t, mustParse(t, client(ca.issue(t, "robot")), Options{}), "SELECT current_user::text", "robot")

	wantFault(t, mustParse(t, full+" sslrootcert="+quote(foreign.file(t)), Options{}), KindTLS, "not signed by an authority in sslrootcert")
	wantFault(t, mustParse(t, keywords(server, "127.0.0.1", "postgres")+"sslmode=verify-full"+root, Options{}), KindTLS, "another host name")
	wantFault(t, mustParse(t, client(ca.issue(t, "somebody")), Options{}), KindRole, "client certificate")
	wantClientCertificateFault(t, mustParse(t, client(foreign.issue(t, "robot")), Options{}))
	wantClientCertificateFault(t, mustParse(t, client(ca.issueUntil(t, "robot", time.Now().Add(-time.Hour))), Options{}))
	wantFault(t, mustParse(t, keywords(server, "127.0.0.1", "postgres")+"sslmode=disable", Options{}), KindRole, "with TLS")
}

// Somebody in the middle who has a certificate of its own cannot pass a login on
// that is bound to the server's.
func TestChannelBinding(t *testing.T) {
	t.Parallel()
	ca, foreign := newAuthority(t), newAuthority(t)
	server := startTLS(t, ca, ca.issue(t, "localhost"))
	login := func(port int, more string) *Settings {
		return mustParse(t, fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=postgres sslmode=require %s",
			port, server.Superuser(), quote(server.Password()), more), Options{})
	}
	const name = "SELECT 'connected'"
	wantValue(t, login(server.Port(), "channel_binding=require"), name, "connected")
	wantValue(t, login(server.Port(), "require_auth=scram-sha-256"), name, "connected")
	middle := middleman(t, foreign.issue(t, "localhost").pair(t), server.Port())
	wantValue(t, login(middle, "channel_binding=disable"), name, "connected")
	for driver, ask := range map[string]func(context.Context, *Settings, string) (string, error){"pgx": askPgx, "lib/pq": askPq} {
		if _, err := ask(deadline(t), login(middle, "channel_binding=require"), name); err == nil {
			t.Errorf("%s logged in through somebody in the middle", driver)
		}
		if _, err := ask(deadline(t), login(server.Port(), "require_auth=password"), name); err == nil {
			t.Errorf("%s logged in by another method than the one required", driver)
		}
	}
}

// middleman ends TLS with a certificate of its own and begins it anew to a server.
func middleman(t *testing.T, own tls.Certificate, port int) (at int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { passBetween(client, own, port) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

func passBetween(client net.Conn, own tls.Certificate, port int) {
	defer client.Close()
	server, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return
	}
	defer server.Close()
	if _, err := io.ReadFull(client, make([]byte, len(sslRequest))); err != nil || requestTLS(server) != nil {
		return
	}
	_, _ = client.Write([]byte("S"))
	outer := tls.Server(client, &tls.Config{Certificates: []tls.Certificate{own}})
	inner := tls.Client(server, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is the attacker
	var up sync.WaitGroup
	up.Go(func() { _, _ = io.Copy(inner, outer); server.Close() })
	_, _ = io.Copy(outer, inner)
	client.Close()
	up.Wait()
}

func TestExpiredServerCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	end := time.Now().Add(-time.Hour)
	server := startTLS(t, ca, ca.issueUntil(t, "localhost", end))
	root := " sslrootcert=" + quote(ca.file(t))
	for _, mode := range []string{"verify-ca", "verify-full"} {
		s := mustParse(t, keywords(server, "localhost", "postgres")+"sslmode="+mode+root, Options{})
		wantFault(t, s, KindTLS, "it expired on "+end.UTC().Format(time.RFC3339))
	}
}

func TestStandby(t *testing.T) {
	t.Parallel()
	standby := startServer(t, map[string]string{"default_transaction_isolation": "serializable"}, map[string][]byte{"standby.signal": nil})
	s := mustParse(t, keywords(standby, "127.0.0.1", "postgres")+"sslmode=prefer target_session_attrs=any", Options{})
	wantFault(t, s, KindStandby, "name the primary")

	primary := startServer(t, nil, nil) // of the same template, so the password is the same
	s = mustParse(t, fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=%s password=%s sslmode=disable",
		standby.Port(), primary.Port(), standby.Superuser(), quote(standby.Password())), Options{})
	wantValue(t, s, "SELECT pg_is_in_recovery()::text", "false")
}

// A listener through a target receives, and Close of its dialer ends it at once.
func TestListenThroughTarget(t *testing.T) {
	ca := newAuthority(t)
	server := startTLS(t, ca, ca.issue(t, "localhost"))
	s := mustParse(t, keywords(server, "127.0.0.1", "postgres")+"sslmode=verify-ca sslrootcert="+quote(ca.file(t)), Options{})
	target := mustTargets(t, s)[0]
	t.Setenv("PGHOST", "127.0.0.1,127.0.0.1") // makes lib/pq believe in a second host
	d := target.Dialer(t.Context(), "")
	events := make(chan pq.ListenerEventType, 8)
	l := pq.NewDialListener(d, target.DSN("listening"), time.Millisecond, time.Millisecond, func(e pq.ListenerEventType, _ error) { events <- e })
	if err := l.Listen("Orders 'x'"); err != nil {
		t.Fatal(err)
	}
	administer(t, server, `SELECT pg_notify('Orders ''x''', application_name) FROM pg_stat_activity WHERE application_name = 'listening'`)
	if n := <-l.Notify; n == nil || n.Extra != "listening" {
		t.Errorf("notification = %+v, want the application's name", n)
	}
	d.Close()
	for e := range events {
		if e == pq.ListenerEventDisconnected {
			break
		}
	}
	if e := <-events; e != pq.ListenerEventConnectionAttemptFailed {
		t.Errorf("event after Close = %s, want a refused attempt", e)
	}
	l.Close()
	for range l.Notify {
	}
}

// The password is refused on the one attempt that counts, whatever PGHOST adds.
func TestSecondAttemptHidesNoRefusal(t *testing.T) {
	server := startServer(t, nil, nil)
	s := mustParse(t, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=wrong sslmode=disable", server.Port()), Options{})
	t.Setenv("PGHOST", "a.invalid,b.invalid")
	_, err := askPq(deadline(t), s, "SELECT 'connected'")
	if SQLState(err) != "28P01" || Explain(err).Kind != KindPassword {
		t.Errorf("askPq = %v, want 28P01", err)
	}
}

func TestPoolNeedsAConnection(t *testing.T) {
	t.Parallel()
	if _, err := mustParse(t, "host=127.0.0.1 user=a", Options{}).PoolConfig(0); err == nil {
		t.Error("PoolConfig(0) succeeded")
	}
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the system accepts, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for _, mode := range []string{"disable", "require"} {
		s := mustParse(t, fmt.Sprintf("host=127.0.0.1 port=%d user=a sslmode=%s connect_timeout=1", port, mode), Options{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, errPgx := askPgx(ctx, s, "SELECT ''")
		_, errPq := askPq(ctx, s, "SELECT ''")
		for driver, err := range map[string]error{"pgx": errPgx, "lib/pq": errPq} {
			if got := Explain(err).Kind; got != KindTimeout || ctx.Err() != nil {
				t.Errorf("%s, sslmode %s: %v is %q, want %q", driver, mode, err, got, KindTimeout)
			}
		}
		cancel()
	}
}

// A function that a script calls can LISTEN: nothing is kept of what comes of it.
func TestNotificationsAreNotKept(t *testing.T) {
	t.Parallel()
	settings, err := Parse(testenv.Postgres(t).NewDatabase(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := settings.Connect(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(deadline(t))
	for _, sql := range []string{"LISTEN a", "NOTIFY a, 'kept?'"} {
		if _, err := conn.Exec(deadline(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := conn.WaitForNotification(over); err == nil {
		t.Errorf("%+v was kept", n)
	}
}
