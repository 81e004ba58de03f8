package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/pgserver"
)

const (
	core      = "core"
	jetStream = "jetstream"
	channel   = "bench"
	subject   = "pgbridge.event." + channel
	stream    = "PGBRIDGE_EVENTS"
)

// lab is the servers, the program under test, and a subscriber's connection.
type lab struct {
	dir      string
	program  string
	postgres *pgserver.Server
	url      string
	version  string
	options  *server.Options
	nats     *server.Server
	nc       *nats.Conn
	js       jetstream.JetStream
	replicas int // of the stream; zero: one
	report   *report
}

func openLab(ctx context.Context) (_ *lab, err error) {
	l := &lab{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.dir, err = os.MkdirTemp("", "pgbridge-bench-"); err != nil {
		return nil, err
	}
	l.program = filepath.Join(l.dir, "pgbridge")
	build := exec.CommandContext(ctx, "go", "build", "-o", l.program, "github.com/pgbridge/pgbridge/cmd/pgbridge")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build pgbridge: %w\n%s", err, out)
	}
	if l.postgres, err = pgserver.Start(ctx, pgserver.Config{}); err != nil { // fsync stays on
		return nil, err
	}
	l.url = l.postgres.URL("postgres")
	if err := l.queryRow(ctx, "SHOW server_version", &l.version); err != nil {
		return nil, err
	}
	l.report = newReport(l.version)
	l.options = &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true,
		StoreDir: filepath.Join(l.dir, "nats"), NoSigs: true, NoLog: true}
	if err := l.startNATS(); err != nil {
		return nil, err
	}
	if l.nc, err = nats.Connect(l.natsURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond)); err != nil {
		return nil, err
	}
	l.js, err = jetstream.New(l.nc)
	return l, err
}

func (l *lab) startNATS() (err error) {
	if l.nats, err = server.NewServer(l.options); err != nil {
		return err
	}
	l.nats.Start()
	if !l.nats.ReadyForConnections(10 * time.Second) {
		return errors.New("nats-server does not start")
	}
	if l.options.Port == server.RANDOM_PORT {
		l.options.Port = portOf(l.nats.ClientURL())
	}
	return nil
}

func (l *lab) stopNATS() {
	l.nats.Shutdown()
	l.nats.WaitForShutdown()
}

func (l *lab) natsURL() string { return l.nats.ClientURL() }

func portOf(natsURL string) int {
	var port int
	_, _ = fmt.Sscanf(natsURL, "nats://127.0.0.1:%d", &port)
	return port
}

func (l *lab) queryRow(ctx context.Context, sql string, into ...any) error {
	conn, err := pgx.Connect(ctx, l.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.QueryRow(ctx, sql).Scan(into...)
}

func (l *lab) close() error {
	if l.nc != nil {
		l.nc.Close()
	}
	if l.nats != nil {
		l.stopNATS()
	}
	var err error
	if l.postgres != nil {
		err = l.postgres.Close()
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

// freshStream makes the stream anew, so that every run begins alike.
func (l *lab) freshStream(ctx context.Context) error {
	err := l.js.DeleteStream(ctx, stream)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	_, err = l.js.CreateStream(ctx, jetstream.StreamConfig{Name: stream, Storage: jetstream.FileStorage,
		Subjects: []string{subject, "pgbridge.gap." + channel}, MaxAge: 72 * time.Hour, Replicas: max(1, l.replicas)})
	return err
}
