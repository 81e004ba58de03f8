package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

const (
	pingInterval   = 9 * time.Second  // with the time-out, a frozen link is noticed within 15 s
	commandTimeout = 5 * time.Second  // for LISTEN, UNLISTEN and a ping
	pauseAtMost    = 60 * time.Second // reading may stand still this long
	usageLimit     = 0.25             // of PostgreSQL's notification queue
	settledAfter   = 5 * time.Second  // a connection that lived so long was a good one
)

var errConnectionEnded = errors.New("the connection ended")

// listener keeps a connection that LISTENs, and hands what it delivers to the
// sequencer.
//
// Each connection is a pq.Listener of its own that is never left to reconnect:
// what an old connection delivered is drained to the last notification before
// a new one begins, back-off can be interrupted, and a rotated password counts
// from the next attempt on.
type listener struct {
	settings    *postgres.Settings
	application string // unique, to find the backend in pg_stat_activity
	seq         *sequencer
	queueUsage  func() (float64, bool)
	pauseLimit  time.Duration // for a full queue
	log         *zap.Logger
	marker      string

	changed  chan struct{} // holds a token when channels were replaced
	trouble  *trouble
	connects atomic.Int64
	pauses   atomic.Bool // reading stands still for a full queue

	mu       sync.Mutex // guards what follows
	channels []string
}

// setRoutes replaces the channels to listen on, here before in the sequencer:
// a channel that the sequencer knows must not be given up again by commands
// that lag behind.
func (l *listener) setRoutes(routes map[string]*route, stats func(channel string) *channelStats) {
	names := append([]string{l.marker}, slices.Sorted(maps.Keys(routes))...)
	l.mu.Lock()
	l.channels = names
	l.mu.Unlock()
	l.seq.setChannels(routes, stats)
	signal(l.changed)
}

func (l *listener) wantedChannels() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.channels
}

// run connects again for ever, until ctx ends. It returns an error only when
// PostgreSQL refuses the credentials before they ever worked.
func (l *listener) run(ctx context.Context) error {
	var retry backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := l.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if l.connects.Load() == 0 && postgres.Refused(err) {
			return fmt.Errorf("listen on %s: %w", l.settings.Describe(), err)
		}
		l.trouble.set(l.log, err)
		if time.Since(began) > settledAfter {
			retry.reset()
			continue // the first attempt at once
		}
		sleep(ctx, retry.next(), nil)
	}
	return nil
}

// connect tries each target in turn and serves the first that connects until
// that connection ends.
func (l *listener) connect(ctx context.Context) error {
	targets, err := l.settings.Targets(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range targets {
		connected, err := l.serve(ctx, t)
		if connected || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
		if postgres.Final(err) {
			break // another server would say the same
		}
	}
	return errors.Join(errs...)
}

// serve is the life of one connection. It owns two goroutines besides pq's:
// this one drains, the other sends commands, since pq deadlocks when a command
// waits while nobody drains.
func (l *listener) serve(ctx context.Context, t postgres.Target) (connected bool, err error) {
	c, err := dialListener(ctx, t, l.application)
	if err != nil {
		return false, err
	}
	l.connects.Add(1)
	l.log.Info("listener connected", zap.String("server", t.String()))
	var commands sync.WaitGroup
	commands.Go(func() { c.fault = l.command(ctx, c) })
	for n := range c.pq.Notify {
		c.signs.Add(1)
		l.seq.notification(n) // never nil: pq does not reconnect here
		l.holdBack(ctx, c)
	}
	close(c.ended)
	c.dialer.Close() // frees a command that still waits
	commands.Wait()
	if ctx.Err() == nil { // else nothing that was received is missing
		l.seq.disconnected()
	}
	return true, cmp.Or(c.fault, c.lost, errConnectionEnded)
}

// command listens on the channels, follows their changes, and pings, until the
// connection fails or ctx ends.
func (l *listener) command(ctx context.Context, c *listenConn) error {
	defer c.close()
	ping := time.NewTicker(pingInterval)
	defer ping.Stop()
	var current []string
	told := false // the sequencer, that it all is listened to
	for {
		wanted := l.wantedChannels()
		if err := c.follow(current, wanted); err != nil {
			return err
		}
		if !told {
			l.seq.listening(wanted)
			l.trouble.clear(l.log)
		}
		current, told = wanted, true
		select {
		case <-ctx.Done():
			late := time.AfterFunc(commandTimeout, c.dialer.Close) // whatever still comes
			defer late.Stop()
			return c.do("UNLISTEN *", c.pq.UnlistenAll)
		case <-c.ended:
			return nil
		case <-l.changed:
			told = false // a channel that went and came back is new to the sequencer
		case <-ping.C:
			if l.pauses.Load() {
				continue // nobody would read the answer
			}
			if err := c.do("ping", c.ping); err != nil {
				return err
			}
		}
	}
}

// holdBack stands still while a queue is full: for a short outage PostgreSQL's
// own queue is the better buffer. It gives up, and lets events be dropped,
// when that queue fills too, or when it cannot be asked, or after a minute.
func (l *listener) holdBack(ctx context.Context, c *listenConn) {
	for _, q := range []*queue{l.seq.core, l.seq.stream} {
		if !q.full() || q.dropping.Load() || !l.seq.live() {
			continue // until this connection's marker arrives nothing is queued anyway
		}
		l.pauses.Store(true)
		if !l.awaitRoom(ctx, q, c) {
			l.seq.overflowed(q)
			l.log.Warn("queue is full, dropping events until NATS takes them", zap.Int64("bytes", q.bytes.Load()))
		}
		l.pauses.Store(false)
	}
}

func (l *listener) awaitRoom(ctx context.Context, q *queue, c *listenConn) bool {
	deadline := time.Now().Add(l.pauseLimit)
	for q.full() {
		c.signs.Add(1)
		if l.seq.awaitsMarker() {
			return q.bytes.Load() < 2*q.limit // it is behind what is not read
		}
		usage, known := l.queueUsage()
		if ctx.Err() != nil || !known || usage >= usageLimit || time.Now().After(deadline) {
			return false
		}
		sleep(ctx, time.Second, q.freed)
	}
	return true
}
