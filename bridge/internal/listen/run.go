package listen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Run connects again for ever, until ctx ends. It returns an error only when
// PostgreSQL refuses the credentials before they ever worked.
func (l *Listener) Run(ctx context.Context) error {
	retry := wait.Retry{Backoff: wait.Backoff{First: 250 * time.Millisecond, Max: 5 * time.Second}, Burst: retryBurst}
	var worked time.Time
	for retry.Wait(ctx) {
		err := l.connect(ctx, func() { worked = time.Now(); retry.Proved() })
		if ctx.Err() != nil {
			return nil
		}
		if l.connects.Load() == 0 && postgres.Refused(err) {
			return fmt.Errorf("listen on %s: %w", l.Settings.Describe(), err)
		}
		l.Problem.Set(l.Log, err)
		if postgres.Starting(err) || postgres.Down(err) && time.Since(worked) < restartWindow {
			retry.Soon(startingPause)
		}
	}
	return nil
}

// connect tries each target in turn and serves the first that connects until
// that connection ends. It calls proved if the channels were listened to.
func (l *Listener) connect(ctx context.Context, proved func()) error {
	targets, err := l.Settings.Targets(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range targets {
		connected, err := l.serve(ctx, t, proved)
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

// Probe connects and sets the session up, as Run does, and closes it.
func (l *Listener) Probe(ctx context.Context) error {
	targets, err := l.Settings.Targets(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range targets {
		err := l.probe(ctx, t)
		if err == nil || ctx.Err() != nil || postgres.Final(err) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (l *Listener) probe(ctx context.Context, t postgres.Target) (err error) {
	c, err := dialListener(ctx, t, l.Application)
	if err != nil {
		return err
	}
	var commands sync.WaitGroup
	commands.Go(func() {
		defer c.close()
		err = c.prepare()
	})
	for range c.pq.Notify { // pq deadlocks when nobody drains
	}
	commands.Wait()
	return err
}

// serve is the life of one connection. It owns two goroutines besides pq's:
// this one drains, the other sends commands, since pq deadlocks when a command
// waits while nobody drains.
func (l *Listener) serve(ctx context.Context, t postgres.Target, proved func()) (connected bool, err error) {
	c, err := dialListener(ctx, t, l.Application)
	if err != nil {
		return false, err
	}
	l.connects.Add(1)
	l.present.Store(c)
	defer l.present.Store(nil)
	l.Log.Info("listener connected", zap.String("server", t.String()))
	var commands sync.WaitGroup
	commands.Go(func() { c.fault = l.command(ctx, c) })
	for n := range c.pq.Notify {
		c.signs.Add(1)
		to := c.translation.Load()
		l.Seq.Notification(to.text(n.Channel), to.text(n.Extra), n.BePid) // n is never nil: pq does not reconnect here
		l.backpressure(ctx, c)
	}
	close(c.ended)
	c.dialer.Close() // frees a command that still waits
	commands.Wait()
	if c.listened {
		proved()
	}
	if ctx.Err() == nil { // else nothing that was received is missing
		l.Seq.Disconnected()
		l.Failed()
	}
	if left := c.left.Load(); left != nil {
		return true, *left
	}
	return true, cmp.Or(c.fault, c.lost, errConnectionEnded)
}

// command listens on the channels, follows their changes, and pings, until the
// connection fails or ctx ends.
func (l *Listener) command(ctx context.Context, c *connection) error {
	defer c.close()
	ping := time.NewTicker(cmp.Or(l.PingEvery, pingInterval))
	defer ping.Stop()
	if err := c.prepare(); err != nil {
		return err
	}
	l.Moved()
	var current []string
	told := false // the sequencer, that it all is listened to
	for {
		wanted := l.WantedChannels()
		err := c.follow(current, wanted)
		if err != nil {
			return err
		}
		if !told {
			l.Seq.Listening(wanted)
			c.listened = true
			l.Problem.Clear(l.Log)
		}
		current, told = wanted, true
		select {
		case <-ctx.Done():
			late := time.AfterFunc(commandTimeout, c.dialer.Close) // whatever still comes
			defer late.Stop()
			return c.do("UNLISTEN *", c.pq.UnlistenAll)
		case <-c.ended:
			return nil
		case <-l.Changed:
			told = false // a channel that went and came back is new to the sequencer
		case <-ping.C:
			err = l.ping(c)
		case <-l.Doubt:
			err = l.ping(c)
		}
		if err != nil {
			return err
		}
	}
}

// ping asks for a sign of life, unless nobody would read the answer.
func (l *Listener) ping(c *connection) error {
	if l.paused.Load() {
		return nil
	}
	return c.do("ping", c.ping)
}
