package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	fewThings = 10    // channels and scripts, of what is measured from
	addedMany = 5_000 // channels or scripts more
	addedOpen = 80    // transactions; PostgreSQL has 100 connections
	addedEach = 64    // cursors in each of some transactions
)

// residence prints the memory that an idle pgbridge takes, and what each thing adds
// to it: the difference of two processes, or of two moments of one, divided.
func (l *lab) residence(ctx context.Context) error {
	idle, err := l.idle(ctx, fewThings, fewThings, nil)
	if err != nil {
		return err
	}
	l.report.add(&figure{What: fmt.Sprintf("resident memory, idle with %d channels and %d scripts", fewThings, fewThings), Value: idle / 1024, Unit: "MiB"})
	for _, more := range []struct {
		what              string
		channels, scripts int
	}{
		{"channel", fewThings + addedMany, fewThings},
		{"script", fewThings, fewThings + addedMany},
	} {
		kib, err := l.idle(ctx, more.channels, more.scripts, nil)
		if err != nil {
			return fmt.Errorf("a %s more: %w", more.what, err)
		}
		l.report.add(&figure{What: "resident memory for each " + more.what, Value: (kib - idle) / addedMany, Unit: "KiB"})
	}
	for _, open := range []struct {
		what    string
		tx, per int
	}{
		{"pinned transaction", addedOpen, 0},
		{"cursor that has read a page of 100 rows", 8, addedEach},
	} {
		var before float64
		after, err := l.idle(ctx, fewThings, fewThings, func(c *contender) (err error) {
			if before, err = c.residentKiB(ctx); err != nil {
				return err
			}
			return l.openAll(open.tx, open.per)
		})
		if err != nil {
			return fmt.Errorf("a %s more: %w", open.what, err)
		}
		n := max(open.tx, open.tx*open.per)
		l.report.add(&figure{What: "resident memory for each " + open.what, Value: (after - before) / float64(n), Unit: "KiB"})
	}
	return nil
}

// idle starts pgbridge, does something with it, and returns how many KiB are resident
// afterwards.
func (l *lab) idle(ctx context.Context, channels, scripts int, do func(*contender) error) (kib float64, err error) {
	folder := filepath.Join(l.dir, "many")
	if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o700)); err != nil {
		return 0, err
	}
	for i := range scripts {
		text := fmt.Sprintf("-- @id: bigint\nSELECT i, 'row ' || i AS name FROM generate_series(1, 1000) i WHERE i > @id -- %d\n", i)
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("s%d.sql", i)), []byte(text), 0o600); err != nil {
			return 0, err
		}
	}
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	config := manyConfig(port, channels, "a", core) + "scripts: " + folder + "\npostgres: {pinned_connections: " + strconv.Itoa(addedOpen) + "}\nrequests: {share: 1}\ntransactions: {idle_timeout: 2m}\n"
	c, err := l.launchFile(filepath.Join(l.dir, "pgbridge.yaml"), l.url, config, func() error { return awaitReady(ctx, port) })
	if err != nil {
		return 0, err
	}
	defer func() {
		if err = errors.Join(err, c.stop()); err != nil {
			err = fmt.Errorf("%w; its log: %.2000s", err, c.log)
		}
	}()
	if do != nil {
		if err := do(c); err != nil {
			return 0, err
		}
	}
	return c.residentKiB(ctx)
}

// openAll begins transactions, and opens cursors in each.
func (l *lab) openAll(transactions, cursors int) error {
	for range transactions {
		var tx cursorReply
		if err := l.cursorRequest("pgbridge.begin", map[string]any{}, &tx); err != nil {
			return err
		}
		for i := range cursors {
			var page struct {
				Rows []json.RawMessage `json:"rows"`
			}
			reply, err := l.nc.Request(tx.Tx+".cursor.s"+strconv.Itoa(i%fewThings), []byte(`{"params": {"id": 0}, "count": 100}`), time.Minute)
			if err == nil {
				err = json.Unmarshal(reply.Data, &page)
			}
			if err != nil || len(page.Rows) == 0 {
				return fmt.Errorf("open a cursor: %w: %.300s", err, reply.Data)
			}
		}
	}
	return nil
}

// residentKiB is what a process takes now, once that has not grown for a while.
func (c *contender) residentKiB(ctx context.Context) (least float64, err error) {
	for i := range 10 {
		out, err := exec.CommandContext(ctx, "ps", "-o", "rss=", "-p", strconv.Itoa(c.command.Process.Pid)).Output()
		if err != nil {
			return 0, err
		}
		kib, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		if err != nil {
			return 0, err
		}
		if i == 0 || kib < least {
			least = kib
		}
		wait.For(ctx, 500*time.Millisecond)
	}
	return least, ctx.Err()
}
