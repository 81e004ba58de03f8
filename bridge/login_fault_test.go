package bridge_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// The credentials are a mistake in the configuration as long as they never worked.
func TestRefusedAtStart(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	testenv.Exec(t, pg.URL(), "CREATE ROLE app LOGIN PASSWORD 'right-secret'")
	testenv.Exec(t, pg.URL(), "CREATE ROLE idle NOLOGIN PASSWORD 'right-secret'")
	open, closed := pg.NewDatabase(t), pg.NewDatabase(t)
	testenv.Exec(t, closed, fmt.Sprintf("REVOKE CONNECT ON DATABASE %s FROM PUBLIC", databaseOf(t, closed)))
	absent := strings.Replace(open, databaseOf(t, open), "nowhere", 1)
	for _, tt := range []struct{ name, url, state string }{
		{"wrong password", as(t, open, "app", "wrong-secret"), "28P01"},
		{"unknown role", as(t, open, "nobody", "wrong-secret"), "28P01"},
		{"role without login", as(t, open, "idle", "right-secret"), "28000"},
		{"unknown database", as(t, absent, "app", "right-secret"), "3D000"},
		{"no CONNECT", as(t, closed, "app", "right-secret"), "42501"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := bridge.New(worldOn(t, tt.url).config(t, map[string]bridge.Channel{"orders": {}}))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			err = b.Run(ctx)
			if !postgres.Refused(err) || postgres.SQLState(err) != tt.state {
				t.Errorf("Run() = %v, want a refusal with %s", err, tt.state)
			}
			if ctx.Err() != nil {
				t.Errorf("Run() took %s", patience)
			}
			if err != nil && strings.Contains(err.Error(), "-secret") {
				t.Errorf("Run() = %v, which holds the password", err)
			}
		})
	}
}

// Once they worked, a refusal is an outage: somebody will mend it.
func TestRefusedLater(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"max_connections": "60"}})
	for i, tt := range []struct {
		name        string
		spoil, mend []string // %[1]s the role, %[2]s the database
		word, state string
	}{
		{"role locked", []string{"ALTER ROLE %[1]s NOLOGIN"}, []string{"ALTER ROLE %[1]s LOGIN"}, "login not allowed", "28000"},
		{"no CONNECT", []string{"REVOKE CONNECT ON DATABASE %[2]s FROM PUBLIC"}, []string{"GRANT CONNECT ON DATABASE %[2]s TO PUBLIC"}, "permission denied", "42501"},
		{"no connection left", []string{"ALTER ROLE %[1]s CONNECTION LIMIT 0"}, []string{"ALTER ROLE %[1]s CONNECTION LIMIT -1"}, "too many connections", "53300"},
		{"database gone", renaming("%[2]s", "%[2]s_away"), renaming("%[2]s_away", "%[2]s"), "unknown database", "3D000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db, role := pg.NewDatabase(t), fmt.Sprintf("app%d", i)
			name := databaseOf(t, db)
			testenv.Exec(t, pg.URL(), fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'right-secret'", role))
			x := newTrial(t, worldOn(t, db), nil, func(c *bridge.Config) { c.ConnString = as(t, db, role, "right-secret") })
			for _, sql := range tt.spoil {
				testenv.Exec(t, pg.URL(), fmt.Sprintf(sql, role, name))
			}
			testenv.Exec(t, pg.URL(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
			x.bridge.logged(t, "listener", tt.word, tt.state)
			x.bridge.logged(t, "control session", tt.word, tt.state)
			x.bridge.hasProblem(t, "listener: "+tt.word)
			if n := x.bridge.warnings(tt.state); n > 4 {
				t.Errorf("%d warnings with %s, want one for each session", n, tt.state)
			}
			for _, sql := range tt.mend {
				testenv.Exec(t, pg.URL(), fmt.Sprintf(sql, role, name))
			}
			x.awaitGaps(t, api.ReasonReconnected, 1)
			x.finish(t)
		})
	}
}

// renaming renames a database in spite of those who want to connect to it.
func renaming(from, to string) []string {
	return []string{
		"ALTER DATABASE " + from + " ALLOW_CONNECTIONS false",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + from + "'",
		"ALTER DATABASE " + from + " RENAME TO " + to,
		"ALTER DATABASE " + to + " ALLOW_CONNECTIONS true",
	}
}

func TestPasswordRotated(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	db := pg.NewDatabase(t)
	testenv.Exec(t, pg.URL(), "CREATE ROLE app LOGIN PASSWORD 'old-secret'")
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old-secret")
	x := newTrial(t, worldOn(t, db), nil, func(c *bridge.Config) {
		c.ConnString, c.PasswordFile = as(t, db, "app", ""), file
	})
	testenv.Exec(t, pg.URL(), "ALTER ROLE app PASSWORD 'new-secret'")
	testenv.TerminateBackend(t, db, "pgbridge%")
	x.bridge.logged(t, "listener", "wrong password", "28P01", "password_file")
	x.bridge.hasProblem(t, "control session: wrong password")
	write("new-secret")
	x.awaitGaps(t, api.ReasonReconnected, 1)
	if n := x.bridge.warnings("28P01"); n > 4 {
		t.Errorf("%d warnings of a wrong password, want one for each session", n)
	}
	for _, e := range x.bridge.logs.All() {
		if line := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(line, "-secret") {
			t.Errorf("the log holds the password: %s", line)
		}
	}
	x.finish(t)
}

func TestNotifyPrivilegeRevoked(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	db := pg.NewDatabase(t)
	testenv.Exec(t, pg.URL(), "CREATE ROLE app LOGIN PASSWORD 'secret'")
	testenv.Exec(t, db, "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC")
	w := worldOn(t, db)
	config := w.config(t, map[string]bridge.Channel{"orders": {}})
	config.ConnString = as(t, db, "app", "secret")
	r := launch(t, config)
	r.logged(t, "marker", "app may not execute pg_notify: GRANT EXECUTE")
	r.hasProblem(t, "pg_notify")
	for _, p := range r.Problems() {
		if strings.Contains(p, "GRANT CONNECT") {
			t.Errorf("problem %q gives the wrong advice", p)
		}
	}
	if n := r.warnings(); n > 4 {
		t.Errorf("%d warnings, want one for each cause", n)
	}
	testenv.Exec(t, db, "GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO app")
	r.ready(t)
	s := keepWriting(t, db, "orders", "a")
	last := s.finish(t)
	w.heard.awaitEvent(t, "pgbridge.event.orders", last)
	s.judge(t, w.heard.events("pgbridge.event.orders"), nil)
}

func TestMaxConnectionsExhausted(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{
		"max_connections": "12", "superuser_reserved_connections": "6", "max_wal_senders": "0",
	}})
	db := pg.NewDatabase(t)
	testenv.Exec(t, pg.URL(), "CREATE ROLE app LOGIN PASSWORD 'secret'")
	var guests []*pgx.Conn
	for range 6 {
		guests = append(guests, newWriter(t, as(t, db, "app", "secret"), "orders").conn)
	}
	w := worldOn(t, db)
	config := w.config(t, map[string]bridge.Channel{"orders": {}})
	config.ConnString = as(t, db, "app", "secret")
	r := launch(t, config)
	r.logged(t, "listener", "too many connections", "53300")
	r.logged(t, "control session", "too many connections", "53300")
	for _, c := range guests {
		c.Close(context.Background())
	}
	r.ready(t)
	if n := r.warnings("53300"); n > 4 {
		t.Errorf("%d warnings of too many connections, want one for each session", n)
	}
}

func TestServerCertificateExpired(t *testing.T) {
	t.Parallel()
	certs := testenv.TLS(t, "app")
	pg := testenv.DedicatedPostgres(t, certs.PGOptions(certs.Expired))
	db := pg.NewDatabase(t)
	proxy := testenv.NewProxy(t, pg.Addr())
	w := worldOn(t, db)
	config := w.config(t, map[string]bridge.Channel{"orders": {}})
	config.ConnString = with(t, proxy.Reroute(t, db), "sslmode", "verify-full", "sslrootcert", certs.CAFile)
	r := launch(t, config)
	r.logged(t, "listener", "TLS", "expired on", "renew it")
	r.logged(t, "control session", "TLS", "expired on")
	began := time.Now()
	testenv.Wait(t, patience, "more attempts", func() bool { return proxy.Accepted() >= 12 })
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("12 attempts within %s: it spins", took)
	}
	if n := r.warnings(); n > 4 {
		t.Errorf("%d warnings after %d attempts, want one for each session", n, proxy.Accepted())
	}
	for name, content := range map[string][]byte{"server.crt": certs.Server.Cert, "server.key": certs.Server.Key} {
		if err := os.WriteFile(filepath.Join(pg.Server().DataDir(), name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Exec(t, pg.URL(), "SELECT pg_reload_conf()")
	r.ready(t)
}

func TestTransactionPooler(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w := worldOn(t, pg.NewDatabase(t))
	config := w.config(t, map[string]bridge.Channel{"orders": {}})
	config.ConnString = testenv.PgBouncer(t, pg).Reroute(t, w.pg)
	r := launch(t, config)
	r.logged(t, "marker", "a connection pooler stands before PostgreSQL")
	r.hasProblem(t, "pooler")
	if n := r.warnings("pooler"); n != 1 {
		t.Errorf("%d warnings name the pooler, want 1", n)
	}
}

func TestHotStandby(t *testing.T) {
	t.Parallel()
	primary := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	db := primary.NewDatabase(t)
	standby := testenv.Standby(t, primary)

	t.Run("alone", func(t *testing.T) {
		r := launch(t, worldOn(t, standby.URL()).config(t, nil))
		r.logged(t, "listener", "not a primary", "standby")
		r.logged(t, "control session", "not a primary", "standby")
		r.hasProblem(t, "standby")
	})
	t.Run("promoted", func(t *testing.T) {
		password, _ := parsed(t, db).User.Password()
		x := newTrial(t, worldOn(t, db), nil, func(c *bridge.Config) {
			c.ConnString = fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=%s password=%s dbname=%s",
				standby.Port(), primary.Port(), primary.Server().Superuser(), password, databaseOf(t, db))
		})
		began := time.Now()
		old := x.endWriting()
		primary.Stop(t)
		lost := interval{began, time.Now()}
		testenv.Exec(t, standby.URL(), "SELECT pg_promote()")
		x.write(t, standby.Server().URL(databaseOf(t, db)))
		x.awaitGaps(t, api.ReasonReconnected, 1)
		checkWindow(t, x.heard.gaps(t, "orders"), lost)
		results := x.finish(t)
		for _, s := range old {
			s.judge(t, results[s.channel].events, results[s.channel].gaps)
		}
	})
}
