package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

var errStalled = errors.New("events stopped arriving")

// throughput prints how many events a second each contender moves, from the
// first commit to the last event: received by a subscriber (core), or stored
// in the stream (JetStream).
func (l *lab) throughput(ctx context.Context, o options, delivery, name string, aim float64) error {
	var rates [2][]float64 // bare, pgbridge
	var memory float64
	for range o.rounds {
		for i, bare := range []bool{true, false} {
			rate, used, err := l.runOnce(ctx, o, bare, delivery)
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], rate)
			if !bare {
				memory = max(memory, used)
			}
		}
	}
	l.report.add(&figure{What: name, Value: median(rates[1]), Unit: "events/s", Beside: aBareLoop, Other: median(rates[0]), AtLeast: aim})
	l.report.add(&figure{What: name + ": resident memory", Value: memory, Unit: "MiB"})
	return nil
}

// throughputOnCluster is throughput into a stream with three replicas.
func (l *lab) throughputOnCluster(ctx context.Context, o options) error {
	cluster, stop, err := l.onCluster(ctx, 3)
	if err != nil {
		return err
	}
	defer stop()
	return cluster.throughput(ctx, o, jetStream, "throughput, jetstream on three servers", 1.50)
}

func (l *lab) runOnce(ctx context.Context, o options, bare bool, delivery string) (rate, memory float64, err error) {
	rate, err = l.runThrough(ctx, o, delivery, func() (*contender, error) { return l.start(ctx, bare, delivery) }, func(c *contender, _ time.Duration) {
		memory = c.memory()
	})
	return rate, memory, err
}

// runThrough returns how many events a second what start has started moves, and hands it to
// look with the processor time that it has used for them.
func (l *lab) runThrough(ctx context.Context, o options, delivery string, start func() (*contender, error), look func(*contender, time.Duration)) (rate float64, err error) {
	if delivery == jetStream {
		if err := l.freshStream(ctx); err != nil {
			return 0, err
		}
	} else if err := l.js.DeleteStream(ctx, stream); err != nil && !strings.Contains(err.Error(), "not found") {
		return 0, err
	}
	c, err := start()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	arrived, done, err := l.count(ctx, delivery)
	if err != nil {
		return 0, err
	}
	defer done()
	before := arrived()
	used, began := c.cpu(), time.Now()
	if err := l.write(ctx, o, o.events); err != nil {
		return 0, err
	}
	if err := await(ctx, func() bool { return arrived()-before >= uint64(o.events) }); err != nil {
		return 0, fmt.Errorf("%w: %d of %d; log: %s", err, arrived()-before, o.events, c.log)
	}
	rate = float64(o.events) / time.Since(began).Seconds()
	look(c, c.cpu()-used)
	return rate, nil
}

// count returns how many events have come out at the other end.
func (l *lab) count(ctx context.Context, delivery string) (arrived func() uint64, done func(), err error) {
	if delivery == jetStream {
		s, err := l.js.Stream(ctx, stream)
		if err != nil {
			return nil, nil, err
		}
		return func() uint64 {
			info, err := s.Info(ctx)
			if err != nil {
				return 0
			}
			return info.State.LastSeq
		}, func() {}, nil
	}
	var n atomic.Uint64
	sub, err := l.nc.Subscribe(subject, func(*nats.Msg) { n.Add(1) })
	if err != nil {
		return nil, nil, err
	}
	_ = sub.SetPendingLimits(-1, -1)
	return n.Load, func() { sub.Unsubscribe() }, l.nc.Flush()
}

// write commits n notifications, as fast as PostgreSQL takes them.
func (l *lab) write(ctx context.Context, o options, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	for w := range o.writers {
		group.Go(func() error {
			conn, err := pgx.Connect(ctx, l.url)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			const sql = `SELECT count(pg_notify($1, rpad($2::int || '-' || g, $3, 'x'))) FROM generate_series($4::int, $5) g`
			for from := w * n / o.writers; from < (w+1)*n/o.writers; from += o.transaction {
				to := min(from+o.transaction, (w+1)*n/o.writers)
				if _, err := conn.Exec(ctx, sql, channel, w, o.payload, from, to-1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// latency prints the time from COMMIT to the subscriber, one notification at a
// time, the contenders running side by side in turns.
func (l *lab) latency(ctx context.Context, o options) error {
	var times [2][]float64
	for range o.rounds {
		for i, bare := range []bool{true, false} {
			t, err := l.latencyOf(ctx, bare, o.notes/o.rounds, o.payload)
			if err != nil {
				return err
			}
			times[i] = append(times[i], t...)
		}
	}
	l.report.add(&figure{What: "from COMMIT to subscriber, median", Value: median(times[1]), Unit: "µs", Beside: aBareLoop, Other: median(times[0]), AtMost: 1.30})
	l.report.add(&figure{What: "from COMMIT to subscriber, 99th percentile", Value: quantile(times[1], 0.99), Unit: "µs", Beside: aBareLoop, Other: quantile(times[0], 0.99)})
	return nil
}

// lone prints what one event costs that comes alone.
func (l *lab) lone(ctx context.Context, o options) error {
	var used [2][]float64
	for range o.rounds {
		for i, bare := range []bool{true, false} {
			micros, err := l.loneOf(ctx, bare, o.notes/o.rounds)
			if err != nil {
				return err
			}
			used[i] = append(used[i], micros)
		}
	}
	l.report.add(&figure{What: "CPU of an event that comes alone", Value: median(used[1]), Unit: "µs", Beside: aBareLoop, Other: median(used[0]), AtMost: 1.30})
	return nil
}

// lonePause is the time between two events.
const lonePause = 2 * time.Millisecond

func (l *lab) loneOf(ctx context.Context, bare bool, n int) (micros float64, err error) {
	c, err := l.start(ctx, bare, core)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	conn, err := pgx.Connect(ctx, l.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	before := c.cpu()
	pace := time.NewTicker(lonePause)
	defer pace.Stop()
	for range n {
		<-pace.C
		if _, err := conn.Exec(ctx, "SELECT pg_notify($1, 'alone')", channel); err != nil {
			return 0, err
		}
	}
	return float64((c.cpu() - before).Microseconds()) / float64(n), nil
}

func (l *lab) latencyOf(ctx context.Context, bare bool, n, size int) (micros []float64, err error) {
	c, err := l.start(ctx, bare, core)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	sub, err := l.nc.SubscribeSync(subject)
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe()
	conn, err := pgx.Connect(ctx, l.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	payload := strings.Repeat("x", size)
	for range n {
		arrived := make(chan time.Time, 1)
		go func() {
			_, _ = sub.NextMsg(10 * time.Second)
			arrived <- time.Now()
		}()
		if _, err := conn.Exec(ctx, "SELECT pg_notify($1, $2)", channel, payload); err != nil {
			return nil, err
		}
		committed := time.Now()
		micros = append(micros, max(0, float64((<-arrived).Sub(committed).Nanoseconds())/1000))
	}
	return micros, nil
}

// outage prints pgbridge's memory when a burst meets a NATS that is away.
func (l *lab) outage(ctx context.Context, o options) (err error) {
	for _, delivery := range []string{core, jetStream} {
		if delivery == jetStream {
			if err := l.freshStream(ctx); err != nil {
				return err
			}
		}
		c, err := l.start(ctx, false, delivery)
		if err != nil {
			return err
		}
		l.stopNATS()
		werr := l.write(ctx, o, o.outage)
		nerr := l.startNATS()
		aerr := l.awaitEvent(ctx)
		memory := c.memory()
		if err := errors.Join(werr, nerr, aerr, c.stop()); err != nil {
			return err
		}
		l.report.add(&figure{What: fmt.Sprintf("resident memory, %s, %d events while NATS is away", delivery, o.outage), Value: memory, Unit: "MiB", AtMost: 64 + 2*32})
	}
	return nil
}

// aBareLoop is what notifications are compared to.
const aBareLoop = "a bare loop"

// await polls until cond holds; 60 s without an end are a failure.
func await(ctx context.Context, cond func() bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			if now.After(deadline) {
				return errStalled
			}
		}
	}
	return nil
}

func median(v []float64) float64 { return quantile(v, 0.5) }

func quantile(v []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(v))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
