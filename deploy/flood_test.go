package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// podMemory is the limit of the pods in kustomize/base, in MiB, without what only a
// standby takes, the 96 MiB of docs/kubernetes.md.
const podMemory = 256

// TestFloods has clients do their worst with pgbridge at once, each within its
// rights: it keeps within the pod's memory, others are served, and the memory comes
// back.
func TestFloods(t *testing.T) {
	t.Parallel()
	d := deploy(t, "nats.conf", `
  user: pgbridge
  password: change me
  requests: {user: pgbridge-requests, password: change me}`)
	scripts := filepath.Join(filepath.Dir(d.config), "scripts")
	write(t, scripts, "transfer.sql", "SELECT pg_sleep(0.2), length(@pad)") // so that what comes has to wait
	write(t, scripts, "huge.sql", "SELECT repeat('x', 70 << 20)")
	write(t, scripts, "wide.sql", "SELECT repeat('x', 500000) FROM generate_series(1, 100)")
	d.run(t, "migrate", "-c", d.config, "--nats", d.url, "--set", "nats.user=admin", "--set", "postgres.url="+d.owner, "--set", "postgres.password_file=")
	server := serve(t, d.program, d.config)
	awaitPublishing(t, d.web+"/readyz")

	ctx, stop := context.WithCancel(t.Context())
	var floods sync.WaitGroup
	for _, flood := range []func(context.Context, *testing.T, string){largeBodies, largeRows, manyCursors, manyTransactions} {
		floods.Go(func() { flood(ctx, t, d.url) })
	}
	modest, _ := client(t, d.url, "admin")
	for i := range 20 {
		served(t, modest, fmt.Sprint("customer", i))
	}
	for _, flooded := range []string{`endpoint="run"`, `code="too_large",endpoint="as"`, `endpoint="begin-bare"`, `endpoint="tx"`} {
		testenv.Wait(t, patience, "an answer to the flood with "+flooded, func() bool {
			return d.counted(t, "pgbridge_requests_total", flooded) != "0"
		})
	}
	stop()
	floods.Wait()
	if peak := resident(t, server, "VmHWM"); peak > podMemory {
		t.Errorf("it had %d MiB in memory, the pod has %d", peak, podMemory)
	}
	testenv.Wait(t, patience, "requests to hold nothing any more", func() bool {
		return d.counted(t, "pgbridge_transactions", "part") == "0" && resident(t, server, "VmRSS") < podMemory*3/4
	})
	served(t, modest, "last")
}

// served has a request answered while others flood, as a client would: again while
// it is busy, or when it was lost with the connection, which NATS cuts where this
// machine cannot read as fast as it sends.
func served(t *testing.T, nc *nats.Conn, caller string) {
	t.Helper()
	testenv.Wait(t, patience, caller+" to be served", func() bool {
		answer, err := nc.Request("pgbridge.as."+caller+".run.account", []byte(`{"params": {"id": 1}}`), 5*time.Second)
		if err != nil {
			return false
		}
		busy := strings.Contains(string(answer.Data), `"busy"`)
		if !busy && !strings.Contains(string(answer.Data), `"results"`) {
			t.Fatalf("%s is answered %s", caller, answer.Data)
		}
		return !busy
	})
}

// resident reads a figure of a process, in MiB.
func resident(t *testing.T, cmd *exec.Cmd, field string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no %s in\n%s", field, status)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n >> 10
}

// flood publishes as fast as NATS takes it.
func flood(ctx context.Context, t *testing.T, nc *nats.Conn, next func() (subject string, body []byte)) {
	inbox := nc.NewInbox()
	answers, err := nc.Subscribe(inbox, func(*nats.Msg) {})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = answers.Unsubscribe() }()
	for ctx.Err() == nil {
		subject, body := next()
		if err := nc.PublishRequest(subject, inbox, body); err != nil {
			t.Errorf("publish %s: %v", subject, err)
			return
		}
	}
}

func largeBodies(ctx context.Context, t *testing.T, url string) {
	cashier, _ := client(t, url, "cashier")
	body := slices.Concat([]byte(`{"params": {"pad": "`), bytes.Repeat([]byte("x"), 1000<<10), []byte(`"}}`))
	flood(ctx, t, cashier, func() (string, []byte) { return "pgbridge.run.transfer", body })
}

func largeRows(ctx context.Context, t *testing.T, url string) {
	var all sync.WaitGroup
	for i := range 4 {
		nc, _ := client(t, url, "admin")
		all.Go(func() {
			for ctx.Err() == nil {
				_, _ = nc.RequestWithContext(ctx, fmt.Sprintf("pgbridge.as.big%d.run.huge", i), nil)
			}
		})
	}
	all.Wait()
}

// manyTransactions takes what it gets, without waiting for it.
func manyTransactions(ctx context.Context, t *testing.T, url string) {
	accountant, _ := client(t, url, "accountant")
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	flood(ctx, t, accountant, func() (string, []byte) {
		<-pace.C
		return "pgbridge.begin", nil
	})
}

// manyCursors opens them in as many transactions as it gets, and keeps their pages.
func manyCursors(ctx context.Context, t *testing.T, url string) {
	nc, _ := client(t, url, "admin")
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for ctx.Err() == nil {
				cursorsOfOne(ctx, nc)
			}
		})
	}
	all.Wait()
}

func cursorsOfOne(ctx context.Context, nc *nats.Conn) {
	answer, err := nc.RequestWithContext(ctx, "pgbridge.as.pager.begin", nil)
	if err != nil {
		return
	}
	var begun struct{ Tx string }
	if json.Unmarshal(answer.Data, &begun) != nil || begun.Tx == "" {
		return
	}
	for i := range 64 {
		_, _ = nc.RequestWithContext(ctx, begun.Tx+".cursor.wide", fmt.Appendf(nil, `{"name": "c%d", "count": 0}`, i))
		_, _ = nc.RequestWithContext(ctx, begun.Tx+".fetch", fmt.Appendf(nil, `{"cursor": "c%d", "count": 2, "max_bytes": 1000000, "page": 1}`, i))
	}
	_, _ = nc.Request(begun.Tx+".rollback", nil, patience)
}
