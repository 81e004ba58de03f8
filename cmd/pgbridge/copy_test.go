package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func (s *scripted) copy(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return callWith(t, strings.NewReader(stdin), append([]string{"copy", "--nats", s.bus.URL()}, args...)...)
}

// callWith runs a command in this process with something to read.
func callWith(t *testing.T, stdin *strings.Reader, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(args, nil, stdin, &stdout, &stderr)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func (s *scripted) orders(t *testing.T) int64 {
	t.Helper()
	return testenv.Value[int64](t, s.url, "SELECT count(*) FROM orders")
}

func TestCopy(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t, "--set", "sql=true")
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.csv"), filepath.Join(dir, "out.csv")
	const data = "customer,total\nAda,1.50\n\"Grace, H\",2.00\n"
	if err := os.WriteFile(in, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	wantResult(t, s.copy(t, "", "import_orders", in), exitOK, "", "all rows were copied: 2, 40 B in")
	wantResult(t, s.copy(t, data, "import_orders"), exitOK, "", "all rows were copied: 2,")
	wantResult(t, s.copy(t, data, "import_orders", "-"), exitOK, "", "all rows were copied: 2,")
	wantResult(t, s.copy(t, "", "export_orders", "customer=Ada"), exitOK, "id,customer,total\n1,Ada,1.50\n3,Ada,1.50\n5,Ada,1.50\n", "all rows were copied: 3,")
	wantResult(t, s.copy(t, "", "export_orders", "customer:=null", "-o", out), exitOK, "", "all rows were copied: 6,")
	exported, err := os.ReadFile(out)
	if err != nil || !strings.HasPrefix(string(exported), "id,customer,total\n1,Ada,1.50\n2,\"Grace, H\",2.00\n") {
		t.Errorf("the file holds %q, %v", exported, err)
	}
	wantResult(t, s.copy(t, "id,customer,total\n1,Ada,9\n100,Edsger,3\n", "upsert_orders", "--as", "alice"), exitOK, "", "all rows were copied: 2,")
	wantResult(t, s.copy(t, "", "--sql", "COPY (SELECT total FROM orders WHERE id IN (@a, 100)) TO STDOUT", "a=1"), exitOK, "9.00\n3.00\n", "all rows")

	if err := os.WriteFile(in, []byte(data+"x,y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := s.orders(t)
	wantResult(t, s.copy(t, "", "import_orders", in), exitFailed, "", "nothing was copied")
	wantResult(t, s.copy(t, "", "import_orders", in), exitFailed, "", "COPY orders, line 4, column total")
	wantResult(t, s.copy(t, "", "import_orders", filepath.Join(dir, "none")), exitFailed, "", "nothing was copied")
	wantResult(t, s.copy(t, "", "import_orders", "-o", out), exitUsage, "", "the script copies into PostgreSQL")
	wantResult(t, s.copy(t, "", "export_orders", "customer=Ada", in), exitUsage, "", "the script copies out of PostgreSQL")
	wantResult(t, s.copy(t, "", "export_orders"), exitFailed, "", `parameter "customer" is missing`)
	wantResult(t, s.copy(t, "", "--sql", "COPY (SELECT 1 / (3 - g) FROM generate_series(1, 9) g) TO STDOUT", "-o", filepath.Join(dir, "half")), exitFailed, "", "nothing was copied")
	wantResult(t, s.copy(t, "", "transfer"), exitFailed, "", "it holds no COPY")
	if got := s.orders(t); got != before {
		t.Errorf("%d orders, want %d", got, before)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) != 2 || len(hidden) != 0 {
		t.Errorf("the folder holds %q and %q, %v", left, hidden, err)
	}
}

func TestCopyLargeFiles(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "out", "COPY (SELECT customer, total FROM orders ORDER BY id) TO STDOUT (FORMAT csv, HEADER)")
	s.serve(t)
	data := []byte("customer,total\n")
	for range 300_000 {
		data = append(data, "somebody who orders a lot,12345.67\n"...)
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, data, 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, s.url, "DROP TRIGGER announce ON orders")
	wantResult(t, s.copy(t, "", "import_orders", in), exitOK, "", "all rows were copied: 300000, 10.5 MB in")
	wantResult(t, s.copy(t, "", "out", "-o", out), exitOK, "", "all rows were copied: 300000, 10.5 MB in")
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what was copied in and out is not the same, %v", err)
	}
}

func TestCopyObjects(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t)
	js, err := jetstream.New(s.bus.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	store, err := js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "imports"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutString(t.Context(), "a/new.csv", "customer,total\nAda,1\n"); err != nil {
		t.Fatal(err)
	}
	wantResult(t, s.copy(t, "", "import_orders", "--object", "imports/a/new.csv"), exitOK, "", "all rows were copied: 1,")
	wantResult(t, s.copy(t, "", "import_orders", "--object", "imports/b"), exitFailed, "", "nothing was copied")
	wantResult(t, s.copy(t, "", "export_orders", "customer=Ada", "--object", "imports/b"), exitFailed, "", "denied")
	if got := s.orders(t); got != 1 {
		t.Errorf("%d orders, want 1", got)
	}
}

func TestCopyAsAJob(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	wantResult(t, call(t, nil, append([]string{"migrate", "--set", "jobs=true"}, s.args()...)...), exitOK, "", "has the stream PGBRIDGE_RESULTS")
	s.serve(t, "--set", "jobs=true")
	js, err := jetstream.New(s.bus.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	store, err := js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "imports"})
	if err == nil {
		_, err = store.PutString(t.Context(), "new.csv", "customer,total\nAda,1\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantResult(t, s.copy(t, "", "import_orders", "--object", "imports/new.csv", "--job", "--id", "once"), exitOK, "", "all rows were copied: 1,")
	}
	wantResult(t, s.copy(t, "", "import_orders", "--object", "imports/other", "--job"), exitFailed, "", "nothing was copied")
	if got := s.orders(t); got != 1 {
		t.Errorf("%d orders, want 1", got)
	}
}

func TestCopyUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{}, {"a=b"}, {"script", "one", "two"}, {"script", "in", "-o", "out"}, {"script", "--timeout", "-1s"},
		{"script", "--object", "bucket"}, {"script", "--object", "/name"}, {"script", "file", "--object", "b/n"}, {"script", "--job"}, {"script", "--object", "b/n", "--id", "x"},
		{"--sql", "COPY (SELECT 1) TO STDOUT", "--object", "b/n", "--job"},
	} {
		if r := call(t, nil, append([]string{"copy"}, args...)...); r.code != exitUsage {
			t.Errorf("copy %q exits with %d, want %d: %s", args, r.code, exitUsage, r.stderr)
		}
	}
	r := call(t, nil, "copy", "--nats", testenv.NATS(t).URL(), "script")
	wantResult(t, r, exitFailed, "", "nobody serves it")
}

// TestCopyThatMovesRows loses none of them where the output cannot be written.
func TestCopyThatMovesRows(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "move", "COPY (SELECT customer FROM orders) TO STDOUT;\nDELETE FROM orders")
	s.serve(t)
	testenv.Exec(t, s.url, "INSERT INTO orders (customer, total) VALUES ('Ada', 1)")
	spy := s.bus.Connect(t)
	copies, err := spy.SubscribeSync("pgbridge.copy.>")
	if err == nil {
		err = spy.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "none", "out")
	wantResult(t, s.copy(t, "", "move", "-o", out), exitFailed, "", "nothing was copied")
	wantResult(t, s.copy(t, "", "move", out), exitUsage, "", "the script copies out of PostgreSQL")
	if err := spy.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := copies.Pending(); n > 0 || err != nil {
		t.Errorf("%d copies were asked for, %v", n, err)
	}
	if got := s.orders(t); got != 1 {
		t.Errorf("%d orders are left, want 1", got)
	}
	wantResult(t, s.copy(t, "", "move"), exitOK, "Ada\n", "all rows were copied: 1,")
	if got := s.orders(t); got != 0 {
		t.Errorf("%d orders are left, want none", got)
	}
}

// TestCopyIsInterrupted stops copies on the client's side.
func TestCopyIsInterrupted(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "endless", "COPY (SELECT generate_series(1, 100000000)) TO STDOUT")
	s.serve(t)
	out := filepath.Join(t.TempDir(), "out")
	client := start(t, "copy", "--nats", s.bus.URL(), "endless", "-o", out)
	testenv.Wait(t, 20*time.Second, "something to be written", func() bool {
		some, err := filepath.Glob(filepath.Join(filepath.Dir(out), ".out.*"))
		return err == nil && len(some) == 1 && sizeOf(some[0]) > 0
	})
	client.signal(t, syscall.SIGINT)
	if code := client.code(t); code != exitFailed {
		t.Errorf("it exits with %d, want %d", code, exitFailed)
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	testenv.Wait(t, 20*time.Second, "the backend to be idle", func() bool {
		return testenv.Value[int64](t, s.url, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'`) == 0
	})
}

func sizeOf(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

func TestCopyReport(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	k := &copying{remote: &remote{process: &process{stderr: &stderr}}}
	err := k.report(nil, errors.Join(client.ErrOutcomeUnknown, context.Canceled))
	if err == nil || !strings.Contains(stderr.String(), "is not known") {
		t.Errorf("report() = %v, %q", err, stderr.String())
	}
}
