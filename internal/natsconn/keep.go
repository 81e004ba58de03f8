package natsconn

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/wait"
)

// Keeper says how a kept connection behaves towards its owner. The zero value
// works.
type Keeper struct {
	// Name of the connection, shown by the server's monitoring and in the log.
	Name string
	// InProcess, if set, is the embedded server; the URLs are not used then.
	InProcess nats.InProcessConnProvider
	// Logger receives connects, disconnects and errors. Nil means none.
	Logger *zap.Logger
	// Refused, if set, is called at most once, from another goroutine: the
	// credentials were refused before they ever worked.
	Refused func(error)

	near *near // nil: it goes anywhere
}

// Events opens the connection that events are published on. It returns at
// once whether or not a server is there; an error means faulty settings. A
// frozen link is noticed within about 6 s, and nothing is buffered while
// there is none: the bridge keeps its own queue.
func Events(s Settings, k Keeper) (*nats.Conn, error) {
	return k.open(s,
		nats.ReconnectBufSize(-1),
		nats.PingInterval(2*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(5*time.Second),
	)
}

// Requests opens the connection that requests are served on. Like Events, but
// answers that are under way when the link breaks are buffered.
func Requests(s Settings, k Keeper) (*nats.Conn, error) {
	return k.open(s,
		nats.PingInterval(5*time.Second),
		nats.PermissionErrOnSubscribe(true), // or a refused subscription looks like a quiet one
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(10*time.Second),
	)
}

func (k Keeper) open(s Settings, special ...nats.Option) (*nats.Conn, error) {
	opts, err := s.options()
	if err != nil {
		return nil, err
	}
	opts = append(opts, special...)
	if k.InProcess != nil {
		opts = append(opts, nats.InProcessServer(k.InProcess))
	}
	w := newWatch(k)
	w.servers, w.asking = s.URLs, slices.Clone(opts)
	opts = append(opts, w.options()...)
	nc, err := nats.Connect(s.urls(), append(opts, nats.Name(k.Name))...)
	if err != nil {
		return nil, fmt.Errorf("prepare NATS connection %s: %w", k.Name, err)
	}
	w.conn.Store(nc)
	return nc, nil
}

// watch hears what happens to one connection.
type watch struct {
	log     *quiet
	refused func(error)
	near    *near
	servers []string
	asking  []nats.Option // with which each of them can be asked
	conn    atomic.Pointer[nats.Conn]
	settled atomic.Bool // it has been connected, or was refused
}

func newWatch(k Keeper) *watch {
	log := k.Logger
	if log == nil {
		log = zap.NewNop()
	}
	return &watch{log: newQuiet(log.With(zap.String("connection", k.Name))), refused: k.Refused, near: k.near}
}

func (w *watch) options() []nats.Option {
	return append(w.near.options(),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(),
		nats.PermissionErrOnSubscribe(true), // so that whoever serves requests learns of it
		nats.CustomReconnectDelay(w.beforeSweep),
		nats.ConnectHandler(w.connected),
		nats.ReconnectHandler(w.connected),
		nats.DisconnectErrHandler(w.disconnected),
		nats.ReconnectErrHandler(w.attemptFailed),
		nats.ErrorHandler(w.asyncError),
	)
}

func (w *watch) connected(nc *nats.Conn) {
	w.settled.Store(true)
	w.log.forget()
	w.log.logger.Info("connected to NATS", zap.String("server", nc.ConnectedUrlRedacted()))
	w.near.connected(nc)
}

func (w *watch) disconnected(_ *nats.Conn, err error) {
	w.near.disconnected()
	if err == nil { // closed by us
		return
	}
	w.log.warn("disconnected from NATS", err)
}

const (
	minDelay = 50 * time.Millisecond
	maxDelay = 2 * time.Second
)

// beforeSweep is the wait before the n-th sweep of the servers, from 1. It also looks at the outcome of the
// last sweep, because nats.go reports a refused handshake to no handler as
// long as it has never been connected.
func (w *watch) beforeSweep(n int) time.Duration {
	if nc := w.conn.Load(); nc != nil {
		if err := nc.LastError(); err != nil {
			w.attemptFailed(nc, err)
		}
	}
	return wait.Backoff{First: minDelay, Max: maxDelay}.After(n)
}

func (w *watch) attemptFailed(_ *nats.Conn, err error) {
	if refusal(err) && w.refused != nil && !w.settled.Load() && w.allRefuse() && w.settled.CompareAndSwap(false, true) {
		w.refused(fmt.Errorf("NATS refused the credentials: %w", err))
		return
	}
	w.log.warn("NATS is away", err)
}

func (w *watch) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if sub != nil {
		w.log.warn("NATS reported an error", err, zap.String("subject", sub.Subject))
		return
	}
	w.log.warn("NATS reported an error", err)
}

// allRefuse asks each server on its own: one that is away may well take the
// credentials, and nobody knows which of them has refused. It blocks for 2 s for
// each server that does not answer.
func (w *watch) allRefuse() bool {
	if len(w.servers) < 2 {
		return true
	}
	for _, server := range w.servers {
		nc, err := nats.Connect(server, append(slices.Clone(w.asking), nats.NoReconnect())...)
		if err == nil {
			nc.Close()
		}
		if !refusal(err) {
			return false
		}
	}
	return true
}

func refusal(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}
