package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/sync/errgroup"
)

// bareKeyService is what one would write to read a row by its key through NATS: the
// library's own service, a pool, and a goroutine for each request. What it reads with is
// the query alone, or all that pgbridge sends for a read-only script.
func bareKeyService(kind contenderKind, postgresURL, natsURL string) error {
	config, err := pgxpool.ParseConfig(postgresURL)
	if err != nil {
		return err
	}
	config.MaxConns = clients
	read, name := bareRead, "bykey"
	if kind == bareCleanKeys {
		read, name, config.AfterConnect = cleanRead, "clean.bykey", prepareCleanRead
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return err
	}
	serve := func(r micro.Request) {
		var body struct {
			Params struct {
				Aid int `json:"aid"`
			} `json:"params"`
		}
		var balance int
		err := json.Unmarshal(r.Data(), &body)
		if err == nil {
			balance, err = read(context.Background(), pool, body.Params.Aid)
		}
		if err != nil {
			_ = r.Error("500", err.Error(), nil)
			return
		}
		_ = r.RespondJSON(map[string]int{"balance": balance})
	}
	_, err = micro.AddService(nc, micro.Config{
		Name: "keys", Version: "1.0.0",
		Endpoint: &micro.EndpointConfig{Subject: "bare." + name, Handler: micro.HandlerFunc(func(r micro.Request) { go serve(r) })},
	})
	if err != nil {
		return err
	}
	select {}
}

var bareByKey = strings.Replace(byKey, "@aid", "$1", 1)

func bareRead(ctx context.Context, pool *pgxpool.Pool, aid int) (balance int, err error) {
	err = pool.QueryRow(ctx, bareByKey, aid).Scan(&balance)
	return balance, err
}

// cleanReadSQL is a transaction, and what leaves the session as it was.
var cleanReadSQL = append([]string{"BEGIN READ ONLY", bareByKey, "COMMIT"}, cleanSQL...)

func prepareCleanRead(ctx context.Context, conn *pgx.Conn) error {
	for i, sql := range cleanReadSQL {
		if _, err := conn.PgConn().Prepare(ctx, "clean"+strconv.Itoa(i), sql, nil); err != nil {
			return err
		}
	}
	return nil
}

func cleanRead(ctx context.Context, pool *pgxpool.Pool, aid int) (balance int, err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	p := conn.Conn().PgConn().StartPipeline(ctx)
	for i, sql := range cleanReadSQL {
		var params [][]byte
		if sql == bareByKey {
			params = [][]byte{strconv.AppendInt(nil, int64(aid), 10)}
		}
		p.SendQueryPrepared("clean"+strconv.Itoa(i), params, nil, nil)
	}
	if err := p.Sync(); err != nil {
		return 0, err
	}
	for _, sql := range cleanReadSQL {
		value, err := bareResult(p)
		if err != nil {
			return 0, err
		}
		if sql == bareByKey {
			if balance, err = strconv.Atoi(string(value)); err != nil {
				return 0, err
			}
		}
	}
	return balance, p.Close()
}

// keyRates prints how many reads by key a second are answered to one requester, a few
// and many, and the CPU of one.
func (l *lab) keyRates(ctx context.Context, o options) error {
	for _, requesters := range []int{1, 8, 64} {
		var rates, micros [3][]float64 // bare, the same statements, pgbridge
		turns := []struct {
			kind contenderKind
			to   string
		}{{bareKeys, "bare.bykey"}, {bareCleanKeys, "bare.clean.bykey"}, {pgbridgeRun, "pgbridge.run.readonly_bykey"}}
		for round := range o.rounds {
			for place := range turns { // another one begins each round
				i := (round + place) % len(turns)
				turn := turns[i]
				rate, used, err := l.keyRate(ctx, o, turn.kind, turn.to, requesters)
				if err != nil {
					return err
				}
				rates[i], micros[i] = append(rates[i], rate), append(micros[i], used)
			}
		}
		what := fmt.Sprintf("SELECT by key, requesters: %d", requesters)
		for i, other := range []struct {
			what string
			aim  float64
		}{{"nats micro with pgxpool", 0.90}, {"the same in a transaction, and a clean session", 0.90}} {
			l.report.add(&figure{What: what, Value: median(rates[2]), Unit: "requests/s", Beside: other.what, Other: median(rates[i]), AtLeast: other.aim})
			l.report.add(&figure{What: what + ", CPU of each", Value: median(micros[2]), Unit: "µs", Beside: other.what, Other: median(micros[i])})
		}
	}
	return nil
}

// keyRate returns the answers a second, and the CPU that each has taken of the process
// that answers.
func (l *lab) keyRate(ctx context.Context, o options, kind contenderKind, to string, requesters int) (rate, micros float64, err error) {
	c, err := l.startService(ctx, kind, to)
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if stopped := c.stop(); err == nil {
			err = stopped
		}
	}()
	var answered atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	used, began := c.cpu(), time.Now()
	until := began.Add(time.Duration(o.seconds) * time.Second)
	for i := range requesters {
		group.Go(func() error {
			for n := i; time.Now().Before(until) && ctx.Err() == nil; n++ {
				if err := request(l.nc, to, map[string]int{"aid": 1 + n*7919%accounts}); err != nil {
					return err
				}
				answered.Add(1)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, fmt.Errorf("%w; log: %s", err, c.log)
	}
	n := float64(answered.Load())
	return n / time.Since(began).Seconds(), float64((c.cpu() - used).Microseconds()) / n, nil
}
