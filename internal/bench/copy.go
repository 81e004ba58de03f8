package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

const bucket = "bench"

// copyScripts copy a table out and in, with chunks or objects.
var copyScripts = map[string]string{
	"export": "-- bucket: " + bucket + "\nCOPY bench_out TO STDOUT",
	"import": "-- bucket: " + bucket + "\nCOPY bench_in FROM STDIN",
}

// copies compares whole copies with psql's \copy, and those of objects with a
// bare Put and Get of the same bytes.
func (l *lab) copies(ctx context.Context, o options) error {
	for _, sql := range []string{
		fmt.Sprintf(`CREATE TABLE bench_out AS SELECT g AS id, g %% 1000 AS customer, now() + g * interval '1s' AS at,
			md5(g::text) AS token, g * 0.01 AS amount FROM generate_series(1, %d) g`, o.copyRows),
		"CREATE TABLE bench_in (LIKE bench_out)",
		"VACUUM ANALYZE bench_out",
	} {
		if err := l.exec(ctx, sql); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(l.dir, "scripts"), 0o755); err != nil {
		return err
	}
	for name, text := range copyScripts {
		if err := os.WriteFile(filepath.Join(l.dir, "scripts", name+".sql"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(l.copyStreams(ctx, o), l.copyObjects(ctx, o))
}

func (l *lab) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, l.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// copyServer runs pgbridge with the scripts.
func (l *lab) copyServer(ctx context.Context) (*contender, error) {
	return l.launch(pgbridgeRun, "scripts: "+filepath.Join(l.dir, "scripts")+"\n", func() error {
		return await(ctx, func() bool {
			_, err := l.nc.Request("pgbridge.describe", nil, time.Second)
			return err == nil
		})
	})
}

func (l *lab) copyStreams(ctx context.Context, o options) (err error) {
	c, err := l.copyServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	theirs, ours := filepath.Join(l.dir, "psql.out"), filepath.Join(l.dir, "pgbridge.out")
	var out, in [2][]float64
	for range o.copyRounds {
		for i, copy := range []func() error{
			func() error { return l.psql(ctx, `\copy bench_out TO '`+theirs+`'`) },
			func() error { return l.copyClient(ctx, "export", "-o", ours) },
		} {
			if err := timed(&out[i], copy); err != nil {
				return err
			}
		}
		for i, copy := range []func() error{
			func() error { return l.psql(ctx, `\copy bench_in FROM '`+theirs+`'`) },
			func() error { return l.copyClient(ctx, "import", theirs) },
		} {
			if err := errors.Join(l.exec(ctx, "TRUNCATE bench_in"), l.exec(ctx, "CHECKPOINT"), timed(&in[i], copy)); err != nil {
				return err
			}
		}
	}
	if err := sameFiles(theirs, ours); err != nil {
		return err
	}
	l.report.add(&figure{What: "copy out", Value: median(out[1]), Unit: "ms", Beside: `psql's \copy`, Other: median(out[0]), AtMost: 1.25})
	l.report.add(&figure{What: "copy in", Value: median(in[1]), Unit: "ms", Beside: `psql's \copy`, Other: median(in[0]), AtMost: 1.10})
	l.report.add(&figure{What: "copies: resident memory", Value: c.memory(), Unit: "MiB", AtMost: 64})
	return nil
}

// copyObjects compares copies of objects with a bare Put and Get.
func (l *lab) copyObjects(ctx context.Context, o options) (err error) {
	store, err := l.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: bucket})
	if err != nil {
		return err
	}
	c, err := l.copyServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	file := filepath.Join(l.dir, "psql.out")
	var put, get [2][]float64
	for range o.copyRounds {
		for _, round := range []struct {
			times *[]float64
			copy  func() error
		}{
			{&put[0], func() error { _, err := store.PutFile(ctx, file); return err }},
			{&put[1], func() error { return l.copyClient(ctx, "export", "--object", bucket+"/orders") }},
			{&get[0], func() error { return store.GetFile(ctx, file, file+".object") }},
			{&get[1], func() error { return l.copyClient(ctx, "import", "--object", bucket+"/orders") }},
		} {
			if err := errors.Join(l.exec(ctx, "TRUNCATE bench_in"), timed(round.times, round.copy)); err != nil {
				return err
			}
		}
	}
	l.report.add(&figure{What: "copy to an object", Value: median(put[1]), Unit: "ms", Beside: "a bare Put of a file", Other: median(put[0])})
	l.report.add(&figure{What: "copy from an object", Value: median(get[1]), Unit: "ms", Beside: "a bare Get to a file", Other: median(get[0])})
	l.report.add(&figure{What: "copies of objects: resident memory", Value: c.memory(), Unit: "MiB", AtMost: 64})
	return nil
}

// timed adds how long f takes, in milliseconds.
func timed(to *[]float64, f func() error) error {
	begun := time.Now()
	err := f()
	*to = append(*to, float64(time.Since(begun).Microseconds())/1000)
	return err
}

func (l *lab) psql(ctx context.Context, command string) error {
	program, err := l.postgres.Binaries().Tool("psql")
	if err != nil {
		return err
	}
	return quietly(exec.CommandContext(ctx, program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", command, l.url))
}

func (l *lab) copyClient(ctx context.Context, args ...string) error {
	return quietly(exec.CommandContext(ctx, l.program, append([]string{"copy", "--nats", l.natsURL()}, args...)...))
}

func quietly(c *exec.Cmd) error {
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", c, err, out)
	}
	return nil
}

func sameFiles(a, b string) error {
	one, err := os.Open(a)
	if err != nil {
		return err
	}
	defer one.Close()
	two, err := os.Open(b)
	if err != nil {
		return err
	}
	defer two.Close()
	p, q := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(one, p)
		m, _ := io.ReadFull(two, q)
		if string(p[:n]) != string(q[:m]) {
			return fmt.Errorf("%s and %s differ", a, b)
		}
		if err != nil {
			return nil
		}
	}
}
