package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

const (
	scale      = 10 // pgbench's
	clients    = 8
	accounts   = 100_000 * scale
	requestFor = 10 * time.Second // an answer that takes longer is a failure
)

// tpcb is pgbench's TPC-B transaction as a script; byKey reads one row.
const (
	tpcb = `UPDATE pgbench_accounts SET abalance = abalance + @delta WHERE aid = @aid;
SELECT abalance FROM pgbench_accounts WHERE aid = @aid;
UPDATE pgbench_tellers SET tbalance = tbalance + @delta WHERE tid = @tid;
UPDATE pgbench_branches SET bbalance = bbalance + @delta WHERE bid = @bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (@tid, @bid, @aid, @delta, CURRENT_TIMESTAMP);
`
	byKey = `SELECT abalance FROM pgbench_accounts WHERE aid = @aid;
`
)

// pipelined is the same transaction for pgbench, in one pipeline.
const pipelined = `\set aid random(1, 100000 * :scale)
\set bid random(1, 1 * :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
\endpipeline
`

// draw makes the parameters of one TPC-B transaction.
type draw struct {
	Aid   int `json:"aid"`
	Bid   int `json:"bid"`
	Tid   int `json:"tid"`
	Delta int `json:"delta"`
}

func newDraw() draw {
	return draw{1 + rand.IntN(accounts), 1 + rand.IntN(scale), 1 + rand.IntN(10*scale), rand.IntN(10_001) - 5000}
}

// transactions prints how many TPC-B transactions a second go through NATS,
// beside pgbench against PostgreSQL directly and a bare NATS service.
func (l *lab) transactions(ctx context.Context, o options) error {
	if err := l.prepareAccounts(ctx); err != nil {
		return err
	}
	var prepared, pipeline, bare, clean, ours []float64
	steps := []struct {
		into *[]float64
		run  func() (float64, error)
	}{
		{&prepared, func() (float64, error) { return l.pgbench(ctx, o, "-b", "tpcb-like") }},
		{&bare, func() (float64, error) { return l.requests(ctx, o, bareService, "bare.run") }},
		{&clean, func() (float64, error) { return l.requests(ctx, o, bareClean, "bare.clean.run") }},
		{&ours, func() (float64, error) { return l.requests(ctx, o, pgbridgeRun, "pgbridge.run.tpcb") }},
		{&pipeline, func() (float64, error) {
			return l.pgbench(ctx, o, "-f", filepath.Join(l.dir, "pipelined.sql"))
		}},
	}
	for round := range o.rounds {
		for place := range steps { // another one begins each round
			step := steps[(round+place)%len(steps)]
			rate, err := step.run()
			if err != nil {
				return err
			}
			*step.into = append(*step.into, rate)
		}
	}
	for _, other := range []struct {
		what  string
		rates []float64
		aim   float64
	}{
		{"pgbench -M prepared", prepared, 1.00},
		{"a bare NATS service in two round trips", bare, 1.00},
		{"the same, and a clean session", clean, 0.90},
		{"pgbench in one pipeline", pipeline, 0},
	} {
		l.report.add(&figure{What: fmt.Sprintf("TPC-B by request, %d clients", clients), Value: median(ours), Unit: "tx/s", Beside: other.what, Other: median(other.rates), AtLeast: other.aim})
	}
	return nil
}

func (l *lab) prepareAccounts(ctx context.Context) error {
	files := map[string]string{"pipelined.sql": pipelined, "scripts/tpcb.sql": tpcb, "scripts/bykey.sql": byKey,
		"scripts/readonly_bykey.sql": "-- read_only: true\n" + byKey}
	if err := os.MkdirAll(filepath.Join(l.dir, "scripts"), 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	_, err := l.runPgbench(ctx, "-i", "-q", "-s", strconv.Itoa(scale))
	return err
}

func (l *lab) runPgbench(ctx context.Context, args ...string) (string, error) {
	program, err := l.postgres.Binaries().Tool("pgbench")
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, program, append(args, l.url)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	return string(out), nil
}

var tpsPattern = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

func (l *lab) pgbench(ctx context.Context, o options, what ...string) (float64, error) {
	args := append([]string{"-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", "2", "-T", strconv.Itoa(o.seconds)}, what...)
	out, err := l.runPgbench(ctx, args...)
	if err != nil {
		return 0, err
	}
	m := tpsPattern.FindStringSubmatch(out)
	if m == nil {
		return 0, errors.New("pgbench printed no tps: " + out)
	}
	return strconv.ParseFloat(m[1], 64)
}

// requests lets the clients send TPC-B requests for a while and returns how
// many were answered a second.
func (l *lab) requests(ctx context.Context, o options, which contenderKind, to string) (rate float64, err error) {
	c, err := l.startService(ctx, which, to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	var answered atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	until := began.Add(time.Duration(o.seconds) * time.Second)
	for range clients {
		group.Go(func() error {
			nc, err := nats.Connect(l.natsURL())
			if err != nil {
				return err
			}
			defer nc.Close()
			for time.Now().Before(until) && ctx.Err() == nil {
				if err := request(nc, to, newDraw()); err != nil {
					return err
				}
				answered.Add(1)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("%w; log: %s", err, c.log)
	}
	return float64(answered.Load()) / time.Since(began).Seconds(), nil
}

// request runs a script and returns its error.
func request(nc *nats.Conn, to string, params any) error {
	body, err := json.Marshal(map[string]any{"params": params})
	if err != nil {
		return err
	}
	reply, err := nc.Request(to, body, requestFor)
	if err != nil {
		return fmt.Errorf("request %s: %w", to, err)
	}
	if code := reply.Header.Get("Nats-Service-Error"); code != "" {
		return fmt.Errorf("request %s: %s", to, code)
	}
	return nil
}

// reading prints the latency of a one-row SELECT by key through NATS, beside
// the sum of what it cannot do without: a NATS echo, and the query.
func (l *lab) reading(ctx context.Context, o options) (err error) {
	c, err := l.startService(ctx, pgbridgeRun, "pgbridge.run.bykey")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	echo, err := l.startService(ctx, bareEcho, "bare.echo")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, echo.stop()) }()
	conn, err := pgx.Connect(ctx, l.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var echoes, queries, ours []float64
	timed := func(into *[]float64, do func() error) error {
		began := time.Now()
		err := do()
		*into = append(*into, float64(time.Since(began).Nanoseconds())/1000)
		return err
	}
	for range o.notes {
		aid := 1 + rand.IntN(accounts)
		params := map[string]int{"aid": aid}
		err := errors.Join(
			timed(&echoes, func() error { return request(l.nc, "bare.echo", params) }),
			timed(&queries, func() error {
				var balance int
				return conn.QueryRow(ctx, strings.Replace(byKey, "@aid", "$1", 1), aid).Scan(&balance)
			}),
			timed(&ours, func() error { return request(l.nc, "pgbridge.run.bykey", params) }))
		if err != nil {
			return err
		}
	}
	l.report.add(&figure{What: "SELECT by key, median", Value: median(ours), Unit: "µs", Beside: "a NATS echo and the query", Other: median(echoes) + median(queries), AtMost: 2.00})
	return nil
}
