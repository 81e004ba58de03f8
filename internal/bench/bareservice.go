package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
)

// bareSQL is tpcb with PostgreSQL's own parameters.
var bareSQL = []string{
	"UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
	"SELECT abalance FROM pgbench_accounts WHERE aid = $1",
	"UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2",
	"UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2",
	"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)",
}

// cleanSQL leaves a session as it was, whatever the functions have done that a
// transaction reached. pgbridge sends it behind each.
var cleanSQL = []string{
	"RESET ALL", "UNLISTEN *", "CLOSE ALL", "DISCARD SEQUENCES",
	"SELECT SESSION_USER, current_setting('role'), pg_my_temp_schema(), pg_advisory_unlock_all()",
}

// bareRequests answers echo requests, or runs TPC-B by hand: the same two
// round trips, and nothing of what makes a service but, where that is asked for, a clean
// session behind each.
func bareRequests(kind contenderKind, postgresURL, natsURL string) error {
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return err
	}
	if kind == bareEcho {
		_, err := nc.Subscribe("bare.echo", func(m *nats.Msg) { _ = m.Respond(m.Data) })
		if err != nil {
			return err
		}
		select {}
	}
	work := make(chan *nats.Msg, 1024)
	to, clean := "bare.run", []string(nil)
	if kind == bareClean {
		to, clean = "bare.clean.run", cleanSQL
	}
	if _, err := nc.ChanSubscribe(to, work); err != nil {
		return err
	}
	failed := make(chan error)
	for range clients {
		go func() { failed <- bareWorker(context.Background(), postgresURL, work, clean) }()
	}
	return <-failed
}

func bareWorker(ctx context.Context, postgresURL string, work <-chan *nats.Msg, clean []string) error {
	conn, err := pgx.Connect(ctx, postgresURL)
	if err != nil {
		return err
	}
	pg := conn.PgConn()
	for i, sql := range slices.Concat(bareSQL, clean) {
		if _, err := pg.Prepare(ctx, "s"+strconv.Itoa(i), sql, nil); err != nil {
			return err
		}
	}
	for m := range work {
		var body struct {
			Params draw `json:"params"`
		}
		if err := json.Unmarshal(m.Data, &body); err != nil {
			return err
		}
		balance, err := bareTransaction(ctx, pg, body.Params, len(clean))
		if err != nil {
			return err
		}
		if err := m.Respond(fmt.Appendf(nil, `{"balance":%s}`, balance)); err != nil {
			return err
		}
	}
	return errors.New("no more work")
}

func bareTransaction(ctx context.Context, pg *pgconn.PgConn, d draw, clean int) (balance []byte, err error) {
	text := func(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }
	delta, aid, tid, bid := text(d.Delta), text(d.Aid), text(d.Tid), text(d.Bid)
	p := pg.StartPipeline(ctx)
	p.SendQueryParams("BEGIN", nil, nil, nil, nil)
	for i, params := range [][][]byte{{delta, aid}, {aid}, {delta, tid}, {delta, bid}, {tid, bid, aid, delta}} {
		p.SendQueryPrepared("s"+strconv.Itoa(i), params, nil, nil)
	}
	p.SendFlushRequest()
	if err := p.Flush(); err != nil {
		return nil, err
	}
	for range 1 + len(bareSQL) {
		if b, err := bareResult(p); err != nil {
			return nil, err
		} else if b != nil {
			balance = b
		}
	}
	p.SendQueryParams("COMMIT", nil, nil, nil, nil)
	for i := range clean {
		p.SendQueryPrepared("s"+strconv.Itoa(len(bareSQL)+i), nil, nil, nil)
	}
	if err := p.Sync(); err != nil {
		return nil, err
	}
	for range 1 + clean {
		if _, err := bareResult(p); err != nil {
			return nil, err
		}
	}
	return balance, p.Close()
}

func bareResult(p *pgconn.Pipeline) (value []byte, err error) {
	r, err := p.GetResults()
	if err != nil {
		return nil, err
	}
	reader, ok := r.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("unexpected %T", r)
	}
	for reader.NextRow() {
		value = append([]byte(nil), reader.Values()[0]...)
	}
	_, err = reader.Close()
	return value, err
}
