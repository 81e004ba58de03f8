package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/sync/errgroup"
)

// bareKeyService is what one would write to read a row by its key through NATS: the
// library's own service, a pool, and a goroutine for each request.
func bareKeyService(postgresURL, natsURL string) error {
	config, err := pgxpool.ParseConfig(postgresURL)
	if err != nil {
		return err
	}
	config.MaxConns = clients
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return err
	}
	sql := strings.Replace(byKey, "@aid", "$1", 1)
	serve := func(r micro.Request) {
		var body struct {
			Params struct {
				Aid int `json:"aid"`
			} `json:"params"`
		}
		var balance int
		err := json.Unmarshal(r.Data(), &body)
		if err == nil {
			err = pool.QueryRow(context.Background(), sql, body.Params.Aid).Scan(&balance)
		}
		if err != nil {
			_ = r.Error("500", err.Error(), nil)
			return
		}
		_ = r.RespondJSON(map[string]int{"balance": balance})
	}
	_, err = micro.AddService(nc, micro.Config{
		Name: "keys", Version: "1.0.0",
		Endpoint: &micro.EndpointConfig{Subject: "bare.bykey", Handler: micro.HandlerFunc(func(r micro.Request) { go serve(r) })},
	})
	if err != nil {
		return err
	}
	select {}
}

// keyRates prints how many reads by key a second are answered to one requester, a few
// and many, and the CPU of one.
func (l *lab) keyRates(ctx context.Context, o options) error {
	for _, requesters := range []int{1, 8, 64} {
		var rates, micros [2][]float64 // bare, pgbridge
		for range o.rounds {
			for i, turn := range []struct {
				kind contenderKind
				to   string
			}{{bareKeys, "bare.bykey"}, {pgbridgeRun, "pgbridge.run.readonly_bykey"}} {
				rate, used, err := l.keyRate(ctx, o, turn.kind, turn.to, requesters)
				if err != nil {
					return err
				}
				rates[i], micros[i] = append(rates[i], rate), append(micros[i], used)
			}
		}
		what := fmt.Sprintf("SELECT by key, requesters: %d", requesters)
		l.report.add(&figure{What: what, Value: median(rates[1]), Unit: "requests/s", Beside: "nats micro with pgxpool", Other: median(rates[0]), AtLeast: 0.90})
		l.report.add(&figure{What: what + ", CPU of each", Value: median(micros[1]), Unit: "µs", Beside: "nats micro with pgxpool", Other: median(micros[0])})
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
