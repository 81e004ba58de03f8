package natsconn

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// Embedded describes the server that runs in our own process, with JetStream.
type Embedded struct {
	// Host is a loopback address, Port the port; 0 takes a free one.
	Host string
	Port int
	// StoreDir is where JetStream keeps its streams.
	StoreDir string
	// Name of the server. Empty means that the server makes one up.
	Name string
	// What clients need, if anything.
	User, Password, Token string
	// Logger receives the server's warnings and errors. Nil means none.
	Logger *zap.Logger
}

// EmbeddedAt takes host and port from the one URL that clients use. It is an
// error when that is not on the loopback interface.
func EmbeddedAt(urls []string) (Embedded, error) {
	if len(urls) == 0 {
		return Embedded{Host: "127.0.0.1", Port: server.DEFAULT_PORT}, nil
	}
	u, err := url.Parse(urls[0])
	if len(urls) > 1 || err != nil || u.Scheme != "nats" {
		return Embedded{}, errors.New("the embedded server wants one URL such as nats://127.0.0.1:4222")
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return Embedded{}, fmt.Errorf("host %q: the embedded server listens on a loopback address only", host)
	}
	port := server.DEFAULT_PORT
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil || port > 65535 {
			return Embedded{}, fmt.Errorf("port %q: want 0 to 65535", p)
		}
	}
	return Embedded{Host: host, Port: port}, nil
}

// Start starts the server and waits until it accepts connections, at most
// 10 s. A taken port is an error.
func (e Embedded) Start() (*server.Server, error) {
	if err := e.TryPort(); err != nil {
		return nil, err
	}
	s, err := server.NewServer(e.options())
	if err != nil {
		return nil, fmt.Errorf("prepare embedded NATS server: %w", err)
	}
	log := e.Logger
	if log == nil {
		log = zap.NewNop()
	}
	fatal := make(chan string, 1)
	s.SetLoggerV2(serverLog{log: log, fatal: fatal}, false, false, false)
	s.Start()
	if err := awaitReady(s, fatal); err != nil {
		Stop(s)
		return nil, fmt.Errorf("start embedded NATS server: %w", err)
	}
	return s, nil
}

// awaitReady waits until the server accepts connections or has given up.
func awaitReady(s *server.Server, fatal <-chan string) error {
	for range 100 {
		if s.ReadyForConnections(100 * time.Millisecond) {
			return nil
		}
		select {
		case reason := <-fatal:
			return errors.New(reason)
		default:
		}
	}
	return errors.New("not ready after 10 s")
}

// Stop shuts the server down and waits for it.
func Stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// TryPort binds the port for a moment and says when it is taken: the server
// itself would only log that and go on trying.
func (e Embedded) TryPort() error {
	if e.Port <= 0 {
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(e.Host, strconv.Itoa(e.Port)))
	if err != nil {
		return fmt.Errorf("start embedded NATS server: %w", err)
	}
	return l.Close()
}

func (e Embedded) options() *server.Options {
	port := e.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return &server.Options{
		ServerName:    e.Name,
		Host:          e.Host,
		Port:          port,
		JetStream:     true,
		StoreDir:      e.StoreDir,
		Username:      e.User,
		Password:      e.Password,
		Authorization: e.Token,
		NoSigs:        true,
	}
}

// serverLog passes the server's warnings on; its notices are of no use to
// somebody who runs pgbridge.
type serverLog struct {
	log   *zap.Logger
	fatal chan<- string
}

func (l serverLog) Noticef(string, ...any) {}
func (l serverLog) Debugf(string, ...any)  {}
func (l serverLog) Tracef(string, ...any)  {}

func (l serverLog) Warnf(format string, args ...any) {
	l.log.Warn("embedded NATS server", zap.String("text", fmt.Sprintf(format, args...)))
}

func (l serverLog) Errorf(format string, args ...any) {
	l.log.Error("embedded NATS server", zap.String("text", fmt.Sprintf(format, args...)))
}

func (l serverLog) Fatalf(format string, args ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, args...):
	default:
	}
}
