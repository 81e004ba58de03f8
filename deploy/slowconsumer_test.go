package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestFloodEndsNoTransaction has one client send large bodies until NATS has cut the
// connection that they go to, over and over again: transactions, copies and cursors
// of others go on as if nothing had happened.
func TestFloodEndsNoTransaction(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	d := deploy(t, "nats.conf", `
  user: pgbridge
  password: change me
  requests: {user: pgbridge-requests, password: change me}`,
		"max_pending: 2MB", fmt.Sprintf("http: 127.0.0.1:%d", port)) // so that it does not take long
	write(t, filepath.Join(filepath.Dir(d.config), "scripts"), "export_orders.sql", "COPY (SELECT n FROM generate_series(1, 200000) n) TO STDOUT")
	d.run(t, "migrate", "-c", d.config, "--nats", d.url, "--set", "nats.user=admin", "--set", "postgres.url="+d.owner, "--set", "postgres.password_file=")
	serve(t, d.program, d.config)
	awaitPublishing(t, d.web+"/readyz")

	accountant, _ := client(t, d.url, "accountant")
	tx := begun(t, accountant, "pgbridge.begin", `{"isolation": "serializable"}`)
	copied := beginCopy(t, d.url)
	admin, _ := client(t, d.url, "admin")
	upload := uploads(t, admin)
	upload.send(t, "customer,total\n")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var flood sync.WaitGroup
	flood.Go(func() { largeBodies(ctx, t, d.url) })
	for cut := 1; cut <= 3; cut++ {
		testenv.Wait(t, patience, "NATS to cut the connection", func() bool { return slowConsumers(t, port) >= cut })
		ask(t, accountant, tx+".run.transfer", transfer, `"results"`)
		upload.send(t, "acme,1.50\n")
		copied.read(t, 1)
	}
	stop()
	flood.Wait()
	ask(t, accountant, tx+".commit", "", "{}")
	copied.read(t, -1)
	upload.end(t, 3)
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := pgserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// slowConsumers asks NATS how many connections it has cut.
func slowConsumers(t *testing.T, port int) int {
	t.Helper()
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/varz", port))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var stats struct {
		SlowConsumers int `json:"slow_consumers"`
	}
	if err := json.Unmarshal(body, &stats); err != nil {
		t.Fatal(err)
	}
	return stats.SlowConsumers
}

// begun asks for something that has a transaction, and returns its subject.
func begun(t *testing.T, nc *nats.Conn, subject, body string) string {
	t.Helper()
	var reply struct{ Tx string }
	if err := json.Unmarshal(ask(t, nc, subject, body, `"tx"`).Data, &reply); err != nil {
		t.Fatal(err)
	}
	return reply.Tx
}

// copyOut is a copy whose window is full unless its chunks are read.
type copyOut struct {
	nc     *nats.Conn
	stream *nats.Subscription
	bytes  int
}

func beginCopy(t *testing.T, url string) *copyOut {
	t.Helper()
	exporter, _ := client(t, url, "exporter")
	c := &copyOut{nc: exporter}
	var err error
	if c.stream, err = exporter.SubscribeSync(exporter.NewInbox()); err == nil {
		err = exporter.PublishRequest("pgbridge.copy.export_orders", c.stream.Subject, []byte(`{"chunk_bytes": 65536, "window_bytes": 131072}`))
	}
	if err != nil {
		t.Fatal(err)
	}
	c.read(t, 1)
	return c
}

// read reads so many messages, or all that come.
func (c *copyOut) read(t *testing.T, n int) {
	t.Helper()
	for ; n != 0; n-- {
		msg, err := c.stream.NextMsg(patience)
		if err != nil {
			t.Fatalf("receive a copy: %v", err)
		}
		if msg.Header.Get("Nats-Service-Error") != "" {
			t.Fatalf("the copy ends with %s", msg.Data)
		}
		if rows := msg.Header.Get("Pgbridge-Rows"); rows != "" {
			if total := msg.Header.Get("Pgbridge-Bytes"); rows != "200000" || total != strconv.Itoa(c.bytes) {
				t.Errorf("%s rows and %s bytes were copied, %d bytes came", rows, total, c.bytes)
			}
			return
		}
		if msg.Reply == "" {
			continue
		}
		c.bytes += len(msg.Data)
		if err := c.nc.Publish(msg.Reply, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// upload is a copy in.
type upload struct {
	nc   *nats.Conn
	data string
	seq  int
}

func uploads(t *testing.T, nc *nats.Conn) *upload {
	t.Helper()
	answer := ask(t, nc, "pgbridge.copy.import_orders", "", `"data"`)
	return &upload{nc: nc, data: string(regexp.MustCompile(`"data":"([^"]+)"`).FindSubmatch(answer.Data)[1])}
}

func (u *upload) send(t *testing.T, chunk string) []byte {
	t.Helper()
	u.seq++
	answer, err := u.nc.RequestMsg(&nats.Msg{Subject: u.data, Data: []byte(chunk), Header: nats.Header{"Pgbridge-Seq": {strconv.Itoa(u.seq)}}}, patience)
	if err != nil || answer.Header.Get("Nats-Service-Error") != "" {
		t.Fatalf("send chunk %d: %v, %v", u.seq, answer, err)
	}
	return answer.Data
}

func (u *upload) end(t *testing.T, rows int) {
	t.Helper()
	if got := u.send(t, ""); !regexp.MustCompile(fmt.Sprintf(`"rows":%d\b`, rows)).Match(got) {
		t.Errorf("the upload ends with %s, want %d rows", got, rows)
	}
}
