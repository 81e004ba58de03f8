package deploy_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestRotation replaces everything that pgbridge and its servers know each other by
// while pgbridge runs: authorities, certificates on both sides, the password and what
// NATS is shown. Nothing of one generation is good for the next. First the servers
// change, so that pgbridge is refused until its files follow, then the files.
func TestRotation(t *testing.T) {
	t.Parallel()
	t.Run("creds", func(t *testing.T) {
		t.Parallel()
		rotates(t, newOperator(t), "creds: %[1]s/nats.creds")
	})
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		rotates(t, passwords{}, "user: pgbridge, password_file: %[1]s/nats-password")
	})
}

// admission is how NATS tells who somebody is.
type admission interface {
	// next makes what is good from now on: the server's configuration, and files
	// for pgbridge.
	next(t *testing.T, generation int) (conf string, files map[string][]byte)
	// observer logs in as another user of the account.
	observer(generation int) nats.Option
}

// passwords admits by passwords that name the generation.
type passwords struct{}

func (passwords) next(_ *testing.T, generation int) (string, map[string][]byte) {
	conf := fmt.Sprintf(`authorization { users: [{user: pgbridge, password: "p%d"}, {user: observer, password: "o%[1]d"}] }`, generation)
	return conf, map[string][]byte{"nats-password": fmt.Appendf(nil, "p%d\n", generation)}
}

func (passwords) observer(generation int) nats.Option {
	return nats.UserInfo("observer", fmt.Sprintf("o%d", generation))
}

func rotates(t *testing.T, auth admission, login string) {
	t.Helper()
	r := newRotation(t, auth)
	r.serve(login)
	awaitPublishing(t, r.web+"/readyz")
	r.works()

	r.nextGeneration()
	r.changeServers()
	testenv.Wait(t, patience, "pgbridge to be refused", func() bool { return !ready(r.web) })
	r.changeFiles()
	awaitPublishing(t, r.web+"/readyz")
	r.works()

	r.nextGeneration()
	r.changeFiles()
	r.changeServers()
	r.works()
}

// rotation is a pgbridge between two servers that all change what they are known by.
type rotation struct {
	*testing.T
	auth       admission
	generation int
	certs      *testenv.Certificates
	conf       string            // of NATS: who may log in
	files      map[string][]byte // for pgbridge

	dir string // pgbridge's files are in dir/current, a link as Kubernetes makes them
	pg  *testenv.PG
	bus *testenv.NATSChild
	web string
}

func newRotation(t *testing.T, auth admission) *rotation {
	t.Helper()
	r := &rotation{T: t, auth: auth, dir: t.TempDir()}
	r.nextGeneration()
	options := r.certs.PGOptions(r.certs.Server)
	options.Files["pg_hba.conf"] = []byte("hostssl all pgbridge all scram-sha-256 clientcert=verify-full\nhost all postgres all trust\n")
	r.pg = testenv.DedicatedPostgres(t, options)
	testenv.Exec(t, r.pg.URL(), "CREATE ROLE pgbridge LOGIN")
	r.setPassword()
	r.writeNATS()
	r.changeFiles()
	// An include is relative to a folder that only the server's maker knows.
	r.bus = testenv.NATSProcess(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\ninclude %q",
		r.serverFile("server.crt"), r.serverFile("server.key"), r.serverFile("ca.crt"), strings.Repeat("../", 20)+r.serverFile("auth.conf")))
	return r
}

func (r *rotation) serverFile(name string) string { return filepath.Join(r.dir, "nats-"+name) }

func (r *rotation) nextGeneration() {
	r.Helper()
	r.generation++
	r.certs = testenv.TLS(r, "pgbridge")
	r.conf, r.files = r.auth.next(r.T, r.generation)
	r.files["ca.crt"] = r.certs.CA
	r.files["client.crt"], r.files["client.key"] = r.certs.Client.Cert, r.certs.Client.Key
	r.files["password"] = fmt.Appendf(nil, "password %d\n", r.generation)
}

// changeFiles replaces pgbridge's files, all at one moment.
func (r *rotation) changeFiles() {
	r.Helper()
	name := fmt.Sprintf("generation%d", r.generation)
	if err := os.Mkdir(filepath.Join(r.dir, name), 0o700); err != nil {
		r.Fatal(err)
	}
	for file, content := range r.files {
		write(r.T, filepath.Join(r.dir, name), file, string(content))
	}
	if err := os.Symlink(name, filepath.Join(r.dir, "next")); err != nil {
		r.Fatal(err)
	}
	if err := os.Rename(filepath.Join(r.dir, "next"), filepath.Join(r.dir, "current")); err != nil {
		r.Fatal(err)
	}
}

// changeServers has both servers know the new generation and nothing else, and ends
// every connection.
func (r *rotation) changeServers() {
	r.Helper()
	r.bus.Stop(r)
	r.writeNATS()
	r.bus.Start(r)
	for name, content := range r.certs.PGOptions(r.certs.Server).Files {
		write(r.T, r.pg.Server().DataDir(), name, string(content)) // the files stay the server's
	}
	r.setPassword()
	testenv.Exec(r, r.pg.URL(), "SELECT pg_reload_conf()")
	testenv.Wait(r, patience, "PostgreSQL to have its new certificate", r.hasNewCertificate)
	testenv.Exec(r, r.pg.URL(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgbridge'")
}

func (r *rotation) writeNATS() {
	r.Helper()
	for name, content := range map[string][]byte{
		"server.crt": r.certs.Server.Cert, "server.key": r.certs.Server.Key, "ca.crt": r.certs.CA, "auth.conf": []byte(r.conf),
	} {
		write(r.T, r.dir, filepath.Base(r.serverFile(name)), string(content))
	}
}

func (r *rotation) setPassword() {
	r.Helper()
	testenv.Exec(r, r.pg.URL(), fmt.Sprintf("ALTER ROLE pgbridge PASSWORD 'password %d'", r.generation))
}

// hasNewCertificate asks PostgreSQL for TLS as a client does.
func (r *rotation) hasNewCertificate() bool {
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {r.certs.CAFile}}
	conn, err := pgx.Connect(r.Context(), fmt.Sprintf("postgres://postgres@%s/postgres?%s", r.pg.Addr(), query.Encode()))
	if err != nil {
		return false
	}
	_ = conn.Close(r.Context())
	return true
}

func (r *rotation) tls() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.certs.CA)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}
}

func (r *rotation) serve(login string) {
	r.Helper()
	port, err := pgserver.FreePort()
	if err != nil {
		r.Fatal(err)
	}
	r.web = fmt.Sprintf("http://127.0.0.1:%d", port)
	current := filepath.Join(r.dir, "current")
	query := url.Values{
		"sslmode": {"verify-full"}, "sslrootcert": {current + "/ca.crt"},
		"sslcert": {current + "/client.crt"}, "sslkey": {current + "/client.key"},
	}
	if err := os.Mkdir(filepath.Join(r.dir, "scripts"), 0o700); err != nil {
		r.Fatal(err)
	}
	write(r.T, filepath.Join(r.dir, "scripts"), "one.sql", "SELECT 1 AS one")
	write(r.T, r.dir, "pgbridge.yaml", fmt.Sprintf(`
postgres: {url: %q, password_file: %s/password}
nats:
  url: %s
  tls: {ca: %[2]s/ca.crt, cert: %[2]s/client.crt, key: %[2]s/client.key}
  %[4]s
channels: {orders: {delivery: jetstream}}
scripts: scripts
http: 127.0.0.1:%[5]d
`, fmt.Sprintf("postgres://pgbridge@%s/postgres?%s", r.pg.Addr(), query.Encode()), current,
		strings.Replace(r.bus.URL(), "nats:", "tls:", 1), strings.ReplaceAll(fmt.Sprintf(login, current), ", ", "\n  "), port))
	serve(r.T, build(r.T), filepath.Join(r.dir, "pgbridge.yaml"))
}

func ready(web string) bool {
	answer, err := http.Get(web + "/readyz")
	if err != nil {
		return false
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode == http.StatusOK
}

// works wants an event and an answer.
func (r *rotation) works() {
	r.Helper()
	config := r.tls()
	pair, err := tls.X509KeyPair(r.certs.Client.Cert, r.certs.Client.Key)
	if err != nil {
		r.Fatal(err)
	}
	config.Certificates = []tls.Certificate{pair}
	nc, err := nats.Connect(r.bus.URL(), nats.Secure(config), r.auth.observer(r.generation))
	if err != nil {
		r.Fatalf("connect to NATS: %v", err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("pgbridge.event.orders")
	if err != nil {
		r.Fatal(err)
	}
	payload := fmt.Sprintf("generation %d", r.generation)
	testenv.Wait(r, patience, "an event", func() bool {
		testenv.Exec(r, r.pg.URL(), fmt.Sprintf("SELECT pg_notify('orders', '%s')", payload))
		m, err := sub.NextMsg(time.Second)
		return err == nil && string(m.Data) == payload
	})
	testenv.Wait(r, patience, "an answer", func() bool {
		answer, err := nc.Request("pgbridge.run.one", nil, time.Second)
		return err == nil && strings.Contains(string(answer.Data), `"results"`)
	})
}
