package testenv

import (
	"context"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const waitLimit = 20 * time.Second

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestDatabasesAreSeparate(t *testing.T) {
	t.Parallel()
	pg := Postgres(t)
	one, two := pg.NewDatabase(t), pg.NewDatabase(t)
	Exec(t, one, "CREATE TABLE x (n int); INSERT INTO x VALUES (1), (2)")
	Exec(t, one, "INSERT INTO x VALUES ($1)", 3)
	if got := Value[int](t, one, "SELECT sum(n)::int FROM x"); got != 6 {
		t.Errorf("sum = %d, want 6", got)
	}
	if Value[bool](t, two, "SELECT to_regclass('x') IS NOT NULL") {
		t.Error("a table of one database is seen in another")
	}
	for name, want := range map[string]string{"fsync": "off", "synchronous_commit": "on", "wal_level": "logical", "max_connections": "200"} {
		if got := Value[string](t, one, "SELECT current_setting($1)", name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestDatabaseIsDroppedWithWhatHoldsIt(t *testing.T) {
	t.Parallel()
	pg := Postgres(t)
	var name string
	t.Run("leave a slot and a session", func(t *testing.T) {
		database := pg.NewDatabase(t)
		name = Value[string](t, database, "SELECT current_database()::text")
		Exec(t, database, "SELECT pg_create_logical_replication_slot(current_database(), 'pgoutput')")
		connect(t, database)
	})
	if Value[bool](t, pg.URL(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name) {
		t.Errorf("database %s outlives its test", name)
	}
}

func TestTerminateBackend(t *testing.T) {
	t.Parallel()
	database := Postgres(t).NewDatabase(t)
	victim := connect(t, database+"&application_name=victim-1")
	if got := TerminateBackend(t, database, "victim-%"); got != 1 {
		t.Errorf("TerminateBackend() = %d, want 1", got)
	}
	_, err := victim.Exec(t.Context(), "SELECT 1")
	if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != "57P01" {
		t.Errorf("query of the terminated session: %v, want 57P01", err)
	}
}

func TestStopAndKillPostgres(t *testing.T) {
	t.Parallel()
	pg := DedicatedPostgres(t, PGOptions{Settings: map[string]string{"max_connections": "50"}})
	database := pg.NewDatabase(t)
	Exec(t, database, "CREATE TABLE x (n int)")
	ends := []func(testing.TB){pg.Stop, pg.Kill}
	for i, end := range ends {
		held := connect(t, database)
		end(t)
		if err := held.Ping(t.Context()); err == nil {
			t.Error("a session outlived the server")
		}
		pg.Start(t)
		Exec(t, database, "INSERT INTO x VALUES (1)")
		if got := Value[int](t, database, "SELECT count(*)::int FROM x"); got != i+1 {
			t.Errorf("rows = %d, want %d", got, i+1)
		}
	}
	if got := Value[string](t, database, "SHOW max_connections"); got != "50" {
		t.Errorf("max_connections = %s, want 50", got)
	}
}

func TestPgBouncerPoolsTransactions(t *testing.T) {
	t.Parallel()
	pg := Postgres(t)
	database := pg.NewDatabase(t)
	pooled := PgBouncer(t, pg).Reroute(t, database)
	one, two := connect(t, pooled), connect(t, pooled)
	pid := func(c *pgx.Conn) (pid int) {
		if err := c.QueryRow(t.Context(), "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	if a, b := pid(one), pid(two); a != b {
		t.Errorf("backends %d and %d, want the same: one after the other they share it", a, b)
	}
}

func TestStandbyFollows(t *testing.T) {
	t.Parallel()
	pg := DedicatedPostgres(t, PGOptions{})
	Exec(t, pg.URL(), "CREATE TABLE x AS SELECT 1 AS n")
	standby := Standby(t, pg)
	if !Value[bool](t, standby.URL(), "SELECT pg_is_in_recovery()") {
		t.Error("the standby is not in recovery")
	}
	Exec(t, pg.URL(), "INSERT INTO x VALUES (2)")
	Wait(t, waitLimit, "the row to reach the standby", func() bool {
		return Value[int](t, standby.URL(), "SELECT count(*)::int FROM x") == 2
	})
	pg.Kill(t)
	Exec(t, standby.URL(), "SELECT pg_promote()")
	Exec(t, standby.URL(), "INSERT INTO x VALUES (3)")
}

func TestTLSPostgres(t *testing.T) {
	t.Parallel()
	certs := TLS(t, "postgres")
	opts := certs.PGOptions(certs.Server)
	opts.Files["pg_hba.conf"] = []byte("hostssl all all 127.0.0.1/32 cert\n")
	pg := DedicatedPostgres(t, opts)
	client := url.Values{
		"sslmode":     {"verify-full"},
		"sslrootcert": {certs.CAFile},
		"sslcert":     {certs.Client.CertFile},
		"sslkey":      {certs.Client.KeyFile},
	}
	secure := strings.Replace(pg.URL(), "sslmode=disable", client.Encode(), 1)
	if got := Value[string](t, secure, "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "/CN=postgres" {
		t.Errorf("client_dn = %q, want /CN=postgres", got)
	}
	if _, err := pgx.Connect(t.Context(), pg.URL()); err == nil {
		t.Error("a session without TLS was accepted")
	}
}

func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	certs := TLS(t, "postgres")
	pg := DedicatedPostgres(t, certs.PGOptions(certs.Expired))
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {certs.CAFile}}
	_, err := pgx.Connect(t.Context(), strings.Replace(pg.URL(), "sslmode=disable", query.Encode(), 1))
	if invalid := (x509.CertificateInvalidError{}); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("connect: %v, want an expired certificate", err)
	}
}
