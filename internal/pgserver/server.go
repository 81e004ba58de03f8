package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = time.Minute      // to become ready, recovery included
	closeLimit = 10 * time.Second // to end at once; PostgreSQL itself needs up to 5 s
)

// Config describes a server. The zero value is a server of the installation
// that Find finds, with a fresh data directory, on any free port.
type Config struct {
	// Binaries is the installation to run. The zero value means Find("").
	Binaries Binaries
	// Superuser is the name of the bootstrap superuser. Default "postgres".
	Superuser string
	// Password is the superuser's. Default a random one, for a fresh data
	// directory; with Template it must be that of the template.
	Password string
	// Port is where the server listens on 127.0.0.1. 0 means a free one.
	Port int
	// Settings are appended to postgresql.conf, over a few of our own that
	// keep the server to itself.
	Settings map[string]string
	// Files are written into the data directory before the server starts, by
	// name, readable by the server's user only: keys, pg_hba.conf.
	Files map[string][]byte
	// Template is a data directory to copy, of a server that is stopped (or
	// see CopyDataDir). Empty means initdb.
	Template string
}

// Server is a PostgreSQL server that belongs to this process. Its methods may
// be called from several goroutines.
type Server struct {
	config  Config
	account Account
	dir     *workDir

	mu      sync.Mutex // guards process, and starting and ending it
	process *Process   // the last one started, may have ended
}

// Start makes a data directory and starts a server on it. It returns when the
// server accepts connections, or with an error that holds the end of the
// server's log. It gives up after a minute.
func Start(ctx context.Context, config Config) (*Server, error) {
	s, err := newServer(config)
	if err != nil {
		return nil, err
	}
	if err := s.prepareAndStart(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func newServer(config Config) (*Server, error) {
	if config.Binaries == (Binaries{}) {
		b, err := Find("")
		if err != nil {
			return nil, err
		}
		config.Binaries = b
	}
	if config.Superuser == "" {
		config.Superuser = "postgres"
	}
	if config.Password == "" {
		config.Password = rand.Text()
	}
	account, err := ServerAccount()
	if err != nil {
		return nil, err
	}
	if err := account.reach(config.Binaries.Postgres); err != nil {
		return nil, err
	}
	dir, err := newWorkDir(account)
	if err != nil {
		return nil, err
	}
	return &Server{config: config, account: account, dir: dir}, nil
}

func (s *Server) prepareAndStart(ctx context.Context) error {
	if err := s.makeDataDir(ctx); err != nil {
		return err
	}
	if s.config.Port != 0 {
		if err := s.configure(); err != nil {
			return err
		}
		return s.StartAgain(ctx)
	}
	return s.startOnFreePort(ctx)
}

func (s *Server) makeDataDir(ctx context.Context) error {
	if s.config.Template != "" {
		return CopyDataDir(ctx, s.config.Template, s.dir.data())
	}
	return initDB(ctx, s.config.Binaries, s.account, s.dir, s.config.Superuser, s.config.Password)
}

// startOnFreePort tries again where another process took the port between the
// search for it and the start.
func (s *Server) startOnFreePort(ctx context.Context) error {
	var err error
	for range 3 {
		if s.config.Port, err = FreePort(); err != nil {
			return err
		}
		if err = s.configure(); err != nil {
			return err
		}
		if err = s.StartAgain(ctx); err == nil {
			return nil
		}
		if taken, _ := portTaken(s.config.Port); !taken {
			return err
		}
	}
	return err
}

func (s *Server) configure() error {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(s.config.Port),
		"unix_socket_directories": s.dir.path,
		// In the data directory, so that nothing is left in /dev/shm.
		"dynamic_shared_memory_type": "mmap",
		"logging_collector":          "off",
		"log_destination":            "stderr",
		"lc_messages":                "C",
	}
	maps.Copy(settings, s.config.Settings)
	if err := configure(s.dir, settings); err != nil {
		return err
	}
	if err := writeFiles(s.dir, s.config.Files); err != nil {
		return err
	}
	return s.account.own(s.dir.root)
}

// StartAgain starts a stopped server, on the same data directory and port. It
// returns when the server accepts connections. A server that runs is an error.
func (s *Server) StartAgain(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		return fmt.Errorf("start PostgreSQL on port %d: it is running", s.config.Port)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	log, err := s.dir.root.OpenFile(logName, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	cmd := s.account.Command(s.dir.path, s.config.Binaries.Postgres, "-D", s.dir.data())
	cmd.Stdout, cmd.Stderr = log, log
	p, err := StartProcess(cmd)
	if err != nil {
		return err
	}
	s.process = p
	if err := s.waitReady(ctx, p); err != nil {
		return fmt.Errorf("start PostgreSQL on port %d: %w\n%s", s.config.Port, errors.Join(err, p.Kill()), s.LogTail())
	}
	return nil
}

// waitReady watches the file in which the server itself says that it accepts
// connections, as pg_ctl does: that needs no password.
func (s *Server) waitReady(ctx context.Context, p *Process) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if status, err := readStatus(s.dir.data()); err == nil && status.pid == p.PID() && status.ready {
			return nil
		}
		select {
		case <-ticker.C:
		case <-p.Exited():
			return fmt.Errorf("it ended: %w", orExited(p.Err()))
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w", context.Cause(ctx))
		}
	}
}

func orExited(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// running needs s.mu.
func (s *Server) running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.Exited():
		return false
	default:
		return true
	}
}

// URL returns the superuser's connection URL, password included, for a
// database; empty means "postgres".
func (s *Server) URL(database string) string {
	if database == "" {
		database = "postgres"
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(s.config.Superuser, s.config.Password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.config.Port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port returns the server's TCP port. It never changes.
func (s *Server) Port() int { return s.config.Port }

// Superuser returns the name of the bootstrap superuser.
func (s *Server) Superuser() string { return s.config.Superuser }

// Password returns the superuser's password.
func (s *Server) Password() string { return s.config.Password }

// Binaries returns the installation that the server runs.
func (s *Server) Binaries() Binaries { return s.config.Binaries }

// DataDir returns the path of the data directory.
func (s *Server) DataDir() string { return s.dir.data() }

// SocketDir returns the folder of the server's Unix socket.
func (s *Server) SocketDir() string { return s.dir.path }

// LogTail returns the last lines of the server's log, at most 4 KiB. Like any
// PostgreSQL log it may quote data.
func (s *Server) LogTail() string {
	log, err := s.dir.root.ReadFile(logName)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return tail(log)
}

// Stop shuts the server down in order, without waiting for its clients: open
// transactions are rolled back. When ctx ends first the server is killed and
// an error returned. A server that does not run is no error.
func (s *Server) Stop(ctx context.Context) error {
	return s.end(func(p *Process) error { return p.End(ctx, syscall.SIGINT) })
}

// Kill ends the server and all its processes with SIGKILL, as a power failure
// would, and returns when all are gone, so that StartAgain can recover. A
// server that does not run is no error.
func (s *Server) Kill() error {
	return s.end((*Process).Kill)
}

func (s *Server) end(by func(*Process) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return nil
	}
	if err := by(s.process); err != nil {
		return fmt.Errorf("end PostgreSQL on port %d: %w", s.config.Port, err)
	}
	return nil
}

// Close ends the server at once, without a checkpoint, and removes all its
// files. The server cannot be used afterwards. It returns within seconds.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	err := s.end(func(p *Process) error { return p.End(ctx, syscall.SIGQUIT) })
	return errors.Join(err, s.dir.remove())
}
