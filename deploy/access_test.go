package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

const patience = 60 * time.Second

const configuration = `
postgres: {url: %q, password_file: password}
nats:
  url: %s%s
channels:
  orders: {delivery: jetstream, notify: true}
  live: {}
scripts: %s
jobs: true
http: 127.0.0.1:%d
`

// TestPermissionsAreEnough runs pgbridge as role.sql and nats.conf say, and
// has the clients in nats.conf do what they may and what they may not.
func TestPermissionsAreEnough(t *testing.T) {
	t.Parallel()
	d := deploy(t, "nats.conf", `
  user: pgbridge
  password: change me
  requests: {user: pgbridge-requests, password: change me}`)
	d.run(t, "migrate", "-c", d.config, "--nats", d.url, "--set", "nats.user=admin", "--set", "postgres.url="+d.owner, "--set", "postgres.password_file=")
	d.run(t, "check", "-c", d.config)
	serve(t, d.program, d.config)
	awaitPublishing(t, d.web+"/readyz")
	makeConsumers(t, d.url, "nats.conf")
	readerHearsWriter(t, d.url)
	cashierRuns(t, d.url)
	clerkGetsResults(t, d.url)
	accountantCommits(t, d.url)
	exporterCopies(t, d.url)
	importsFromAnObject(t, d.url)
	commandsWork(t, d)
	nobodyForges(t, d.url)
	nobodyHasNATSAct(t, d)
	nobodyHasItCutOff(t, d)
	nobodyHasStreamsDeleted(t, d)
}

// deploy makes a database as role.sql says, a NATS server, with more in its
// configuration, and one of pgbridge's own.
func deploy(t *testing.T, conf, user string, more ...string) deployment {
	t.Helper()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{}) // roles are the whole server's
	testenv.Exec(t, pg.URL(), "CREATE DATABASE app TEMPLATE template0")
	app := pg.Server().URL("app")
	testenv.Exec(t, app, examples.Schema())
	testenv.Exec(t, app, txrunner.MigrationSQL())
	testenv.Exec(t, app, file(t, "role.sql"))
	for _, grant := range regexp.MustCompile(`(?m)^-- +(GRANT .* ON (?:account|orders).*;)$`).FindAllStringSubmatch(file(t, "role.sql"), -1) {
		testenv.Exec(t, app, grant[1])
	}
	bus := testenv.NATSProcess(t, strings.Join(append(more, file(t, conf)), "\n"))
	port, err := pgserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	database := fmt.Sprintf("postgres://pgbridge@%s/app?sslmode=disable", pg.Addr())
	scripts := filepath.Join(dir, "scripts")
	if err := os.CopyFS(scripts, os.DirFS("../examples/scripts")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "pgbridge.yaml", fmt.Sprintf(configuration, database, bus.URL(), user, scripts, port))
	write(t, dir, "password", "change me\n")

	program := build(t)
	d := deployment{program: program, config: filepath.Join(dir, "pgbridge.yaml"), url: bus.URL(), web: fmt.Sprintf("http://127.0.0.1:%d", port), owner: app}
	return d
}

// deployment is a pgbridge that runs as the shipped files say.
type deployment struct{ program, config, url, web, owner string }

func (d deployment) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := pgbridge(t, d.program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", args[0], err, out)
	}
}

func file(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serve runs pgbridge until the test ends, and wants a clean end.
func serve(t *testing.T, program, config string) *exec.Cmd {
	t.Helper()
	cmd := pgbridge(t, program, "serve", "-c", config)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("pgbridge ended with %v", err)
		}
		if t.Failed() || strings.Contains(log.String(), "Permissions Violation") {
			t.Errorf("pgbridge's log:\n%s", &log)
		}
	})
	return cmd
}

func awaitPublishing(t *testing.T, url string) {
	t.Helper()
	testenv.Wait(t, patience, "pgbridge to be ready and publishing", func() bool {
		answer, err := http.Get(url)
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		return err == nil && answer.StatusCode == http.StatusOK && bytes.Contains(body, []byte(`"state":"publishing"`))
	})
	http.DefaultClient.CloseIdleConnections()
}

// client connects as a user of nats.conf does; what NATS refuses goes into the
// returned Go channel.
func client(t *testing.T, url, user string) (*nats.Conn, <-chan error) {
	t.Helper()
	refusals := make(chan error, 16)
	nc, err := nats.Connect(url, nats.UserInfo(user, "change me"), nats.CustomInboxPrefix("_INBOX."+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refusals <- err }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, refusals
}

func readerHearsWriter(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	writer, _ := client(t, url, "writer")
	answer, err := writer.RequestWithContext(ctx, "pgbridge.notify.orders", []byte("hello"))
	if err != nil || string(answer.Data) != "{}" {
		t.Fatalf("notify: %v, %v", answer, err)
	}
	reader, _ := client(t, url, "reader")
	stored, err := reader.SubscribeSync("_INBOX.reader.events")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"pgbridge.gap.orders", "pgbridge.event.orders"} {
		m, err := stored.NextMsgWithContext(ctx)
		if err != nil {
			t.Fatalf("read %s: %v", want, err)
		}
		if m.Subject != want { // as a push consumer has it
			t.Errorf("read %s, want %s", m.Subject, want)
		}
	}
}

// makeConsumers makes what a file has an administrator make.
func makeConsumers(t *testing.T, url, conf string) {
	t.Helper()
	admin, _ := client(t, url, "admin")
	js, err := admin.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	for _, make := range regexp.MustCompile(`(?s)nats consumer add (\w+) (\w+) --target (\S+) \\\n#\s+(?:--filter "(\S+)" )?--deliver all --ack (\w+)`).FindAllStringSubmatch(file(t, conf), -1) {
		acknowledged := map[string]nats.AckPolicy{"none": nats.AckNonePolicy, "explicit": nats.AckExplicitPolicy}[make[5]]
		_, err := js.AddConsumer(make[1], &nats.ConsumerConfig{
			Durable: make[2], DeliverSubject: make[3], FilterSubject: make[4], AckPolicy: acknowledged,
		})
		if err != nil {
			t.Fatalf("make the consumer %s: %v", make[2], err)
		}
	}
}

const transfer = `{"params": {"source": 1, "target": 2, "amount": "1.00"}}`

// ask wants an answer that holds a text.
func ask(t *testing.T, nc *nats.Conn, subject, body, want string) *nats.Msg {
	t.Helper()
	msg := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{}}
	if strings.HasPrefix(subject, "pgbridge.run.") || strings.HasPrefix(subject, "pgbridge.job.") {
		msg.Header.Set(nats.MsgIdHdr, subject)
	}
	answer, err := nc.RequestMsg(msg, patience)
	if err != nil {
		t.Fatalf("request %s: %v", subject, err)
	}
	if !strings.Contains(string(answer.Data), want) {
		t.Errorf("%s: %s, want %s", subject, answer.Data, want)
	}
	return answer
}

func cashierRuns(t *testing.T, url string) {
	t.Helper()
	cashier, _ := client(t, url, "cashier")
	ask(t, cashier, "pgbridge.describe.transfer", "", `"parameters"`)
	ask(t, cashier, "pgbridge.run.transfer", transfer, `"results"`)
}

func clerkGetsResults(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	clerk, _ := client(t, url, "clerk")
	results, err := clerk.SubscribeSync("pgbridge.result.transfer.*")
	if err != nil {
		t.Fatal(err)
	}
	ask(t, clerk, "pgbridge.job.run.transfer", transfer, `"stream":"PGBRIDGE_JOBS"`)
	live, err := results.NextMsgWithContext(ctx)
	if err != nil {
		t.Fatalf("receive a result: %v", err)
	}
	stored, err := clerk.SubscribeSync("_INBOX.clerk.results")
	if err != nil {
		t.Fatal(err)
	}
	later, err := stored.NextMsgWithContext(ctx)
	if err != nil || string(later.Data) != string(live.Data) {
		t.Errorf("the stored result is %v, %v, want %s", later, err, live.Data)
	}
}

func accountantCommits(t *testing.T, url string) {
	t.Helper()
	accountant, _ := client(t, url, "accountant")
	var begun struct{ Tx string }
	if err := json.Unmarshal(ask(t, accountant, "pgbridge.begin", `{"isolation": "serializable"}`, `"tx"`).Data, &begun); err != nil {
		t.Fatal(err)
	}
	ask(t, accountant, begun.Tx+".run.transfer", transfer, `"results"`)
	ask(t, accountant, begun.Tx+".commit", "", "{}")
}

func exporterCopies(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	exporter, refusals := client(t, url, "exporter")
	inbox := exporter.NewInbox()
	stream, err := exporter.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := exporter.PublishRequest("pgbridge.copy.export_orders", inbox, []byte(`{"params": {"customer": null}}`)); err != nil {
		t.Fatal(err)
	}
	for rows := ""; rows == ""; {
		msg, err := stream.NextMsgWithContext(ctx)
		if err != nil {
			t.Fatalf("receive a copy: %v", err)
		}
		if msg.Header.Get("Nats-Service-Error") != "" {
			t.Fatalf("the copy ends with %s", msg.Data)
		}
		if msg.Reply != "" {
			if err := exporter.Publish(msg.Reply, nil); err != nil {
				t.Fatal(err)
			}
		}
		rows = msg.Header.Get("Pgbridge-Rows")
	}
	for range 2 { // the second takes the first one's place
		ask(t, exporter, "pgbridge.copy.export_orders", `{"params": {"customer": null}, "object": {"bucket": "exports", "name": "orders.csv"}}`, `"digest"`)
	}
	if text, err := bucket(t, url, "exports").GetString(ctx, "orders.csv"); err != nil || !strings.HasPrefix(text, "id,customer,total\n") {
		t.Errorf("the object is %q, %v", text, err)
	}
	if err := exporter.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refusals:
		t.Errorf("exporter: %v", err)
	default:
	}
}

// bucket opens an object store as an administrator.
func bucket(t *testing.T, url, name string) jetstream.ObjectStore {
	t.Helper()
	admin, _ := client(t, url, "admin")
	js, err := jetstream.New(admin)
	if err != nil {
		t.Fatal(err)
	}
	store, err := js.ObjectStore(t.Context(), name)
	if err != nil {
		t.Fatalf("open the bucket %s: %v", name, err)
	}
	return store
}

func importsFromAnObject(t *testing.T, url string) {
	t.Helper()
	if _, err := bucket(t, url, "imports").PutString(t.Context(), "new.csv", "customer,total\nacme,1.50\n"); err != nil {
		t.Fatal(err)
	}
	admin, _ := client(t, url, "admin")
	ask(t, admin, "pgbridge.copy.import_orders", `{"object": {"bucket": "imports", "name": "new.csv"}}`, `"rows":1`)
}

func nobodyForges(t *testing.T, url string) {
	t.Helper()
	for _, try := range []struct{ user, subject string }{
		{"reader", "pgbridge.event.orders"},
		{"reader", "pgbridge.notify.orders"},
		{"reader", "$JS.API.STREAM.DELETE.PGBRIDGE_EVENTS"},
		{"reader", "$JS.ACK.PGBRIDGE_EVENTS.reader.1.1.1.1.0"},
		{"clerk", "$JS.ACK.PGBRIDGE_RESULTS.clerk.1.1.1.1.0"},
		{"writer", "pgbridge.gap.orders"},
		{"writer", "pgbridge.notify.live"},
		{"pgbridge", "pgbridge.notify.orders"},
		{"pgbridge", "$JS.API.STREAM.DELETE.PGBRIDGE_EVENTS"},
		{"pgbridge-requests", "pgbridge.event.orders"},
		{"pgbridge-requests", "pgbridge.run.transfer"},
		{"pgbridge-requests", "$JS.API.STREAM.DELETE.PGBRIDGE_JOBS"},
		{"cashier", "pgbridge.run"},
		{"cashier", "pgbridge.run.account"},
		{"cashier", "pgbridge.job.run.transfer"},
		{"cashier", "pgbridge.begin"},
		{"cashier", "pgbridge.as.alice.run.transfer"},
		{"clerk", "pgbridge.job.run.account"},
		{"clerk", "pgbridge.result.transfer.mine"},
		{"clerk", "$JS.API.DIRECT.GET.PGBRIDGE_RESULTS.pgbridge.result.account.x"},
		{"accountant", "pgbridge.run.transfer"},
		{"accountant", "pgbridge.tx.x.y.run.account"},
		{"accountant", "pgbridge.tx.x.y.run"},
		{"reader", "$JS.API.CONSUMER.CREATE.PGBRIDGE_EVENTS.x"},
		{"reader", "$JS.API.CONSUMER.MSG.NEXT.PGBRIDGE_EVENTS.reader"},
		{"clerk", "$JS.API.STREAM.NAMES"},
		{"clerk", "$JS.API.DIRECT.GET.PGBRIDGE_RESULTS"},
		{"exporter", "$JS.API.STREAM.CREATE.OBJ_exports"},
		{"exporter", "$JS.API.STREAM.UPDATE.OBJ_exports"},
		{"exporter", "$JS.API.STREAM.PURGE.OBJ_exports"},
		{"exporter", "$JS.API.CONSUMER.CREATE.OBJ_exports.x"},
		{"exporter", "$JS.API.DIRECT.GET.OBJ_exports"},
		{"exporter", "pgbridge.copy.import_orders"},
		{"exporter", "pgbridge.run.transfer"},
	} {
		nc, refusals := client(t, url, try.user)
		if err := nc.Publish(try.subject, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refusals:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s publishes %s: %v", try.user, try.subject, err)
			}
		case <-time.After(patience):
			t.Errorf("%s may publish %s", try.user, try.subject)
		}
	}
}
