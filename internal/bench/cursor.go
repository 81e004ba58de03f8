package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// page is how many rows are asked for at a time.
const page = 1000

var cursorScripts = map[string]string{
	"rows":   "SELECT * FROM bench_rows",
	"tojson": "SELECT row_to_json(r) FROM bench_rows r",
	"some":   "SELECT r.* FROM bench_rows r LIMIT @n::bigint",
	"more":   "SELECT r.* FROM generate_series(1, @times::int), bench_rows r",
}

// cursors compares reading a table through cursors with psql, and with rows that
// the server turns into JSON, and looks at the memory that large results take.
func (l *lab) cursors(ctx context.Context, o options) (err error) {
	// This process is the NATS server and the reader too, and its garbage is
	// neither pgbridge's nor psql's.
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	for _, sql := range []string{
		fmt.Sprintf(`CREATE TABLE bench_rows AS SELECT g::bigint AS id, 'customer ' || g %% 1000 AS name, g * 1.25 AS amount,
			now() + g * interval '1 second' AS at, g %% 2 = 0 AS paid FROM generate_series(1, %d) g`, o.cursorRows),
		"VACUUM ANALYZE bench_rows", "CHECKPOINT",
	} {
		if err := l.exec(ctx, sql); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(l.dir, "scripts"), 0o755); err != nil {
		return err
	}
	for name, text := range cursorScripts {
		if err := os.WriteFile(filepath.Join(l.dir, "scripts", name+".sql"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	c, err := l.copyServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := l.cursorRates(ctx, o); err != nil {
		return fmt.Errorf("%w; log: %s", err, c.log)
	}
	return l.cursorMemory(ctx, o)
}

// cursorRates prints rows a second, the contenders taking turns.
func (l *lab) cursorRates(ctx context.Context, o options) error {
	var psql, stream, paged, server []float64
	for range o.rounds {
		for _, turn := range []struct {
			into *[]float64
			read func() (int, error)
		}{
			{&psql, func() (int, error) { return o.cursorRows, l.psqlRows(ctx) }},
			{&stream, func() (int, error) { return l.streamRows("rows", nil) }},
			{&paged, func() (int, error) { return l.pagedRows("rows") }},
			{&server, func() (int, error) { return l.streamRows("tojson", nil) }},
		} {
			began := time.Now()
			n, err := turn.read()
			if err != nil {
				return err
			}
			if n != o.cursorRows {
				return fmt.Errorf("%d rows came, want %d", n, o.cursorRows)
			}
			*turn.into = append(*turn.into, float64(n)/time.Since(began).Seconds())
		}
	}
	say := func(what string, ours, other []float64, beside string, want float64) {
		l.report.add(&figure{What: what, Value: median(ours), Unit: "rows/s", Beside: beside, Other: median(other), AtLeast: want})
	}
	say("a cursor's stream", stream, psql, "psql with FETCH_COUNT", 1.00)
	say(fmt.Sprintf("pages of %d by request and reply", page), paged, psql, "psql with FETCH_COUNT", 0.80)
	say("a cursor's stream of rows", stream, server, "a stream of row_to_json", 1.50)
	return nil
}

// cursorMemory prints what a result of 1,000 times the size adds to pgbridge's
// memory, of which the process is a new one.
func (l *lab) cursorMemory(ctx context.Context, o options) error {
	c, err := l.copyServer(ctx)
	if err != nil {
		return err
	}
	small, err := l.streamRows("some", map[string]any{"n": o.cursorRows / 100})
	before := c.memory()
	if err != nil {
		return errors.Join(err, c.stop())
	}
	large, err := l.streamRows("more", map[string]any{"times": 10})
	if err == nil {
		l.report.add(&figure{What: fmt.Sprintf("resident memory that a stream of %d rows adds to that of %d", large, small), Value: c.memory() - before, Unit: "MiB", AtMost: 16})
	}
	return errors.Join(err, c.stop())
}

// psqlRows has psql read the table as it does large results.
func (l *lab) psqlRows(ctx context.Context) error {
	program, err := l.postgres.Binaries().Tool("psql")
	if err != nil {
		return err
	}
	return quietly(exec.CommandContext(ctx, program, "-X", "-q", "-A", "-v", "FETCH_COUNT="+strconv.Itoa(page),
		"-o", os.DevNull, "-c", cursorScripts["rows"], l.url))
}

// cursorReply is what the reader has to know of a reply.
type cursorReply struct {
	Tx   string            `json:"tx"`
	Rows []json.RawMessage `json:"rows"`
	Done bool              `json:"done"`
}

func (l *lab) cursorRequest(to string, body any, into *cursorReply) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	reply, err := l.nc.Request(to, data, time.Minute)
	if err != nil {
		return fmt.Errorf("request %s: %w", to, err)
	}
	if code := reply.Header.Get("Nats-Service-Error"); code != "" {
		return fmt.Errorf("request %s: %s", to, code)
	}
	return readReply(reply.Data, into)
}

// readReply reads a reply. A page's rows are what psql prints and nobody looks
// at, so they are counted by the count that was asked for but at the end.
func readReply(data []byte, into *cursorReply) error {
	const notDone = `"done":false}`
	if into.Tx != "" && len(data) > len(notDone) && string(data[len(data)-len(notDone):]) == notDone {
		into.Done = false
		return nil
	}
	into.Rows = nil
	return json.Unmarshal(data, into)
}

// pagedRows reads a script's rows with one request for each page.
func (l *lab) pagedRows(script string) (int, error) {
	var r cursorReply
	if err := l.cursorRequest("pgbridge.cursor."+script, map[string]any{"count": page}, &r); err != nil {
		return 0, err
	}
	n := len(r.Rows)
	for !r.Done {
		if err := l.cursorRequest(r.Tx+".fetch", map[string]any{"cursor": "c1", "count": page}, &r); err != nil {
			return n, err
		}
		if r.Done {
			n += len(r.Rows)
		} else {
			n += page
		}
	}
	return n, nil
}

// streamRows reads a script's rows as a stream, and acknowledges each chunk.
func (l *lab) streamRows(script string, params any) (int, error) {
	var r cursorReply
	opening := map[string]any{"count": 0}
	if params != nil {
		opening["params"] = params
	}
	if err := l.cursorRequest("pgbridge.cursor."+script, opening, &r); err != nil {
		return 0, err
	}
	chunks := make(chan *nats.Msg, 64<<10)
	inbox := l.nc.NewInbox()
	sub, err := l.nc.ChanSubscribe(inbox, chunks)
	if err != nil {
		return 0, err
	}
	defer sub.Unsubscribe()
	body := fmt.Appendf(nil, `{"cursor": "c1", "count": %d}`, page)
	if err := l.nc.PublishRequest(r.Tx+".stream", inbox, body); err != nil {
		return 0, err
	}
	for timeout := time.After(5 * time.Minute); ; {
		select {
		case m := <-chunks:
			switch {
			case m.Reply != "":
				if err := l.nc.Publish(m.Reply, nil); err != nil {
					return 0, err
				}
			case m.Header.Get("Nats-Service-Error") != "":
				return 0, errors.New("stream: " + m.Header.Get("Nats-Service-Error"))
			case len(m.Data) == 0:
				return strconv.Atoi(m.Header.Get("Pgbridge-Rows"))
			}
		case <-timeout:
			return 0, errors.New("a stream does not end")
		}
	}
}
