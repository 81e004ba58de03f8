package testenv

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/pgserver"
)

const (
	postgresEnv    = "PGBRIDGE_TEST_POSTGRES"
	preferredMajor = 15
	startLimit     = 2 * time.Minute // under load initdb alone can take long
	stopLimit      = 30 * time.Second
)

// PG is a PostgreSQL server: fsync=off full_page_writes=off
// max_connections=200 wal_level=logical.
type PG struct {
	server *pgserver.Server
	shared bool
}

// PGOptions are what a test wants beyond that.
type PGOptions struct {
	// Settings for postgresql.conf, over ours.
	Settings map[string]string
	// Files to write into the data directory before the first start: keys,
	// pg_hba.conf.
	Files map[string][]byte
}

// Postgres returns the server that all tests of the process share. Use
// NewDatabase for a place of one's own on it. Roles, the NOTIFY queue and the
// write-ahead log are the whole server's: a test that is about those, or that
// stops the server, needs DedicatedPostgres.
func Postgres(t testing.TB) *PG {
	t.Helper()
	server, err := shared.get()
	if err != nil {
		t.Fatalf("start the shared PostgreSQL: %v", err)
	}
	return &PG{server: server, shared: true}
}

// DedicatedPostgres starts a server for this test alone. When the test fails
// the end of the server's log is shown.
func DedicatedPostgres(t testing.TB, opts PGOptions) *PG {
	t.Helper()
	server, err := startPostgres(opts)
	if err != nil {
		t.Fatalf("start a PostgreSQL: %v", err)
	}
	t.Cleanup(func() { closeServer(t, server) })
	return &PG{server: server}
}

func closeServer(t testing.TB, server *pgserver.Server) {
	if t.Failed() {
		t.Logf("PostgreSQL's log ends with\n%s", server.LogTail())
	}
	if err := server.Close(); err != nil {
		t.Errorf("close PostgreSQL: %v", err)
	}
}

// URL returns the superuser's URL of the database "postgres".
func (p *PG) URL() string { return p.server.URL("") }

// Port returns the server's port on 127.0.0.1; it stays the same over stops.
func (p *PG) Port() int { return p.server.Port() }

// Addr returns 127.0.0.1 and the port.
func (p *PG) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.server.Port()))
}

// Server gives access to everything else: passwords, folders, the log.
func (p *PG) Server() *pgserver.Server { return p.server }

// Stop shuts the server down in order, cutting its clients off.
func (p *PG) Stop(t testing.TB) {
	t.Helper()
	p.forbidShared(t, "stop")
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	if err := p.server.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the server and its backends with SIGKILL.
func (p *PG) Kill(t testing.TB) {
	t.Helper()
	p.forbidShared(t, "kill")
	if err := p.server.Kill(); err != nil {
		t.Fatal(err)
	}
}

// Start starts a stopped or killed server again, on the same port and data. It
// returns when the server accepts connections.
func (p *PG) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := p.server.StartAgain(ctx); err != nil {
		t.Fatal(err)
	}
}

func (p *PG) forbidShared(t testing.TB, verb string) {
	t.Helper()
	if p.shared {
		t.Fatalf("%s PostgreSQL: other tests share it; use DedicatedPostgres", verb)
	}
}

func startPostgres(opts PGOptions) (*pgserver.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	binaries, err := findBinaries()
	if err != nil {
		return nil, err
	}
	template, err := loadTemplate(ctx, binaries)
	if err != nil {
		return nil, err
	}
	return pgserver.Start(ctx, pgserver.Config{
		Binaries: binaries,
		Template: template.dataDir,
		Password: template.password,
		Settings: settings(opts.Settings),
		Files:    opts.Files,
	})
}

func findBinaries() (pgserver.Binaries, error) {
	if dir := os.Getenv(postgresEnv); dir != "" {
		b, err := pgserver.Find(dir)
		if err != nil {
			return pgserver.Binaries{}, fmt.Errorf("%s: %w", postgresEnv, err)
		}
		return b, nil
	}
	if b, err := pgserver.FindMajor(preferredMajor); err == nil {
		return b, nil
	}
	return pgserver.Find("")
}

// settings keeps synchronous_commit on: with it off a killed server loses
// commits that it has answered.
func settings(extra map[string]string) map[string]string {
	all := map[string]string{
		"fsync":                 "off",
		"full_page_writes":      "off",
		"max_connections":       "200",
		"max_replication_slots": "40",
		"max_wal_senders":       "40",
		"wal_level":             "logical",
		"wal_keep_size":         "64MB", // for a standby that is being set up
	}
	maps.Copy(all, extra)
	return all
}

// shared is the server that all tests of a process use: there is no other
// place than a package variable to keep it between tests. Main closes it.
var shared sharedServer

type sharedServer struct {
	mu     sync.Mutex // guards the rest
	tried  bool
	server *pgserver.Server
	err    error // of the only try
}

func (s *sharedServer) get() (*pgserver.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tried {
		s.tried = true
		s.server, s.err = startPostgres(PGOptions{})
	}
	return s.server, s.err
}

func (s *sharedServer) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	return s.server.Close()
}
