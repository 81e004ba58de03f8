package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/pgserver"
)

const (
	durableChannel = "benchd"
	durableStream  = "PGBRIDGE_DURABLE"
	durableClients = 64
	// writerSeconds is how long they write at least: each of their sessions plans its
	// statements several times first, which in a few seconds is a good part of the work.
	writerSeconds = 20
	durableConfig = "channels: {" + durableChannel + ": {durable: true}, " + channel + ": {}}\n"
)

// durables prints what durable channels cost a writer, and how fast, how late and
// with how much memory their reader carries. They have a PostgreSQL of their own,
// for others need no wal_level = logical.
func (l *lab) durables(ctx context.Context, o options) (err error) {
	d := *l
	// What was measured before has left a stream that holds all events' subjects.
	if err := l.js.DeleteStream(ctx, stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if d.postgres, err = pgserver.Start(ctx, pgserver.Config{Settings: map[string]string{"wal_level": "logical", "max_connections": "200"}}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.postgres.Close()) }()
	d.url = d.postgres.URL("postgres")
	if err := quietly(exec.CommandContext(ctx, l.program, "migrate", "--postgres", d.url)); err != nil {
		return err
	}
	return errors.Join(d.durableWriters(ctx, o), d.durableReader(ctx, o), d.durableLatency(ctx, o), d.durableTakeovers(ctx))
}

// durableWriters prints transactions of an UPDATE and an event, with many clients: the
// event in the UPDATE's own statement, and in one of its own, which costs a writer what
// any statement does.
func (l *lab) durableWriters(ctx context.Context, o options) error {
	if err := l.prepareAccounts(ctx); err != nil {
		return err
	}
	update := "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid"
	payload := "repeat('x', " + strconv.Itoa(o.payload) + ")"
	plain, durable := "pg_notify('"+channel+"', "+payload+")", "pgbridge.notify('"+durableChannel+"', "+payload+")"
	within := func(event string) string { return update + " RETURNING " + event + ";\n" }
	apart := func(event string) string { return update + ";\nSELECT " + event + ";\n" }
	bare := "pg_logical_emit_message(true, 'pgbridge." + durableChannel + "', " + payload + ")"
	rates, err := l.writers(ctx, o, update+";\n", within(plain), within(durable), apart("1"), apart(plain), apart(durable), apart(bare))
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%d writers of an UPDATE with a durable event", durableClients)
	l.report.add(&figure{What: what, Value: rates[2], Unit: "tx/s", Beside: "the same with pg_notify", Other: rates[1], AtLeast: 2.50})
	l.report.add(&figure{What: what, Value: rates[2], Unit: "tx/s", Beside: "the same without an event", Other: rates[0], AtLeast: 0.85})
	what = fmt.Sprintf("%d writers of an UPDATE, and a durable event in a statement of its own", durableClients)
	l.report.add(&figure{What: what, Value: rates[5], Unit: "tx/s", Beside: "the same with pg_notify", Other: rates[4]})
	l.report.add(&figure{What: what, Value: rates[5], Unit: "tx/s", Beside: "the same with SELECT 1", Other: rates[3]})
	l.report.add(&figure{What: what, Value: rates[5], Unit: "tx/s", Beside: "the same with PostgreSQL's own function alone", Other: rates[6]})
	l.report.add(&figure{What: what, Value: rates[5], Unit: "tx/s", Beside: "the UPDATE alone", Other: rates[0]})
	return nil
}

// writers returns the transactions a second of each kind of statements, taking turns.
func (l *lab) writers(ctx context.Context, o options, kinds ...string) ([]float64, error) {
	rates := make([][]float64, len(kinds))
	for range o.rounds {
		for i, statements := range kinds {
			script := filepath.Join(l.dir, "writer.sql")
			sql := "\\set aid random(1, 100000 * " + strconv.Itoa(scale) + ")\nBEGIN;\n" + statements + "COMMIT;\n"
			if err := os.WriteFile(script, []byte(sql), 0o600); err != nil {
				return nil, err
			}
			rate, err := l.pgbench(ctx, o, "-c", strconv.Itoa(durableClients), "-T", strconv.Itoa(max(o.seconds, writerSeconds)), "-f", script)
			if err != nil {
				return nil, err
			}
			rates[i] = append(rates[i], rate)
		}
	}
	medians := make([]float64, len(kinds))
	for i := range rates {
		medians[i] = median(rates[i])
	}
	return medians, nil
}

// durableReader prints how fast what has gathered in a slot is stored, and the
// memory that this takes, for a few events and for many.
func (l *lab) durableReader(ctx context.Context, o options) error {
	if err := l.queryRow(ctx, "SELECT 1 FROM pg_create_logical_replication_slot('bare', 'pgoutput')", new(int)); err != nil {
		return err
	}
	c, err := l.launch(pgbridgeRun, durableConfig, func() error { return l.awaitStored(ctx, durableStream, 1) })
	if err != nil {
		return err
	}
	if err := c.stop(); err != nil {
		return err
	}
	_, memoryOfFew, err := l.drain(ctx, pgbridgeRun, 1000)
	if err != nil {
		return err
	}
	var bare float64
	rate, memory, err := l.drain(ctx, pgbridgeRun, o.durables)
	if err == nil {
		bare, _, err = l.drain(ctx, bareDrain, 0)
	}
	if err != nil {
		return err
	}
	l.report.add(&figure{What: "durable events out of a slot", Value: rate, Unit: "events/s", Beside: "a bare loop of asynchronous publishing", Other: bare, AtLeast: 1.00})
	l.report.add(&figure{What: fmt.Sprintf("resident memory after %d durable events", o.durables), Value: memory, Unit: "MiB", Beside: "after 1000 of them", Other: memoryOfFew})
	l.report.add(&figure{What: fmt.Sprintf("resident memory that %d durable events add to that of 1000", o.durables), Value: memory - memoryOfFew, Unit: "MiB", AtMost: 16})
	return nil
}

// drain writes n events, zero: those of before once more, and
// measures from the first that is stored to the last.
func (l *lab) drain(ctx context.Context, kind contenderKind, n int) (rate, memory float64, err error) {
	name := durableStream
	if kind == bareDrain {
		name = stream
		if err := l.freshStream(ctx); err != nil {
			return 0, 0, err
		}
		if err := l.queryRow(ctx, "SELECT count(*)::int FROM pgbridge_bench", &n); err != nil {
			return 0, 0, err
		}
	} else if err := l.gather(ctx, n); err != nil {
		return 0, 0, err
	}
	before, err := l.stored(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	c, err := l.launch(kind, durableConfig, func() error { return l.awaitStored(ctx, name, before+1) })
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	began := time.Now()
	if err := l.awaitStored(ctx, name, before+uint64(n)); err != nil {
		return 0, 0, fmt.Errorf("%w; log: %s", err, c.log)
	}
	return float64(n) / time.Since(began).Seconds(), c.memory(), nil
}

// gather sends n events, a million in a transaction at most, and notes each so that the
// bare loop knows how many its slot has.
func (l *lab) gather(ctx context.Context, n int) error {
	const atOnce = 1_000_000
	err := l.exec(ctx, "CREATE TABLE IF NOT EXISTS pgbridge_bench (n int)")
	for first := 1; first <= n && err == nil; first += atOnce {
		err = l.exec(ctx, fmt.Sprintf("WITH made AS (INSERT INTO pgbridge_bench SELECT g FROM generate_series(%d, %d) g RETURNING n) SELECT count(pgbridge.notify('%s', rpad(n::text, 200, 'x'))) FROM made",
			first, min(n, first+atOnce-1), durableChannel))
	}
	return err
}

func (l *lab) stored(ctx context.Context, name string) (uint64, error) {
	s, err := l.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.LastSeq, nil
}

// awaitStored waits until a stream has come to a sequence, as long as it grows.
func (l *lab) awaitStored(ctx context.Context, name string, sequence uint64) error {
	for seen := uint64(0); seen < sequence; {
		err := await(ctx, func() bool {
			last, err := l.stored(ctx, name)
			grown := err == nil && last > seen
			if grown {
				seen = last
			}
			return grown
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// durableLatency prints the time from COMMIT to a subscriber, one event at a time,
// on a durable and on a plain channel of the same pgbridge.
func (l *lab) durableLatency(ctx context.Context, o options) (err error) {
	c, err := l.launch(pgbridgeRun, durableConfig, func() error { return l.awaitEvent(ctx) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	conn, err := pgx.Connect(ctx, l.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var micros [2][]float64
	for i, name := range []string{channel, durableChannel} {
		sub, err := l.nc.SubscribeSync("pgbridge.event." + name)
		if err != nil {
			return err
		}
		defer sub.Unsubscribe()
		send := []string{"SELECT pg_notify($1, $2)", "SELECT pgbridge.notify($1, $2::text)"}[i]
		// The first one may come late, for PostgreSQL reads again what was drained.
		if _, err := lateness(ctx, conn, sub, send, name, "first"); err != nil {
			return err
		}
		for range max(100, o.notes/10) {
			took, err := lateness(ctx, conn, sub, send, name, strings.Repeat("x", o.payload))
			if err != nil {
				return err
			}
			micros[i] = append(micros[i], took)
		}
	}
	l.report.add(&figure{What: "durable, from COMMIT to subscriber, median", Value: median(micros[1]), Unit: "µs", Beside: "NOTIFY through pgbridge", Other: median(micros[0])})
	return nil
}

// lateness is how many microseconds after its commit one event arrived.
func lateness(ctx context.Context, conn *pgx.Conn, sub *nats.Subscription, send, to, payload string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	arrived := make(chan time.Time, 1)
	var missing error // until something is in arrived
	go func() {
		_, missing = sub.NextMsgWithContext(ctx)
		arrived <- time.Now()
	}()
	if _, err := conn.Exec(ctx, send, to, payload); err != nil {
		return 0, err
	}
	committed := time.Now()
	at := <-arrived
	return max(0, float64(at.Sub(committed).Nanoseconds())/1000), missing
}
