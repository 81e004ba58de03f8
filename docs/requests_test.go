package docs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// bench serves the example scripts, and a few more, to a client.
type bench struct {
	t      *testing.T
	client *nats.Conn
}

func newBench(t *testing.T) *bench {
	t.Helper()
	bus := testenv.NATS(t)
	database := testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, database, examples.Schema())
	migrate(t, database)
	requests := bus.Connect(t, nats.PermissionErrOnSubscribe(true))
	copies, err := copier.New(copier.Config{Requests: requests})
	if err != nil {
		t.Fatal(err)
	}
	serveRequests(t, txrunner.Config{
		ConnString: database, Scripts: scriptsFolder(t), SQL: &txrunner.SQL{}, Requests: requests,
		Extensions: []txrunner.Extension{cursors.New(), copies.Extension()},
		Jobs:       &txrunner.Jobs{Stream: txrunner.JobStream{Create: true}, Results: txrunner.ResultStream{Create: true}},
	})
	return &bench{t, bus.Connect(t)}
}

func migrate(t *testing.T, database string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := txrunner.Migrate(ctx, conn); err != nil {
		t.Fatal(err)
	}
}

func migrateBridge(t *testing.T, database string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := bridge.Migrate(ctx, conn, 0); err != nil {
		t.Fatal(err)
	}
}

func scriptsFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, examples.Scripts()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"notices": "DO $$ BEGIN RAISE NOTICE '3 rows skipped'; END $$",
		"wrong":   "SELECT no_such FROM account",
		"large":   "SELECT repeat('x', 2000000) AS x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".sql"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// serveRequests runs a runner until the test ends.
func serveRequests(t *testing.T, config txrunner.Config) {
	t.Helper()
	runner, err := txrunner.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	testenv.Wait(t, patience, "the requests to be served", func() bool { return len(runner.Problems()) == 0 })
}

// ask sends an example to a subject and returns the answer.
func (b *bench) ask(subject string, question example) *nats.Msg {
	b.t.Helper()
	msg := &nats.Msg{Subject: subject, Header: nats.Header{}, Data: question.Payload}
	for name, value := range question.Headers {
		msg.Header.Set(name, value)
	}
	answer, err := b.client.RequestMsg(msg, patience)
	if err != nil {
		b.t.Fatalf("request %s: %v", subject, err)
	}
	return answer
}

// TestRequestExamplesAreReal sends the requests that asyncapi.yaml shows and
// compares the answers with those it shows: the names of headers and of the
// members of JSON objects.
func TestRequestExamplesAreReal(t *testing.T) {
	t.Parallel()
	b, d := newBench(t), asyncapi(t)
	for _, c := range []struct{ subject, question, answer string }{
		{"pgbridge.run.transfer", "run", "result"},
		{"pgbridge.run.transfer", "run once", "result"},
		{"pgbridge.run.transfer", "run once", "replayed result"},
		{"pgbridge.run.account", "run for objects", "result with objects"},
		{"pgbridge.as.alice.run.transfer", "run", "result"},
		{"pgbridge.run.notices", "empty", "result with notices"},
		{"pgbridge.run.wrong", "empty", "error in the text"},
		{"pgbridge.describe", "empty", "scripts"},
		{"pgbridge.describe", "list", "scripts"},
		{"pgbridge.describe.account", "empty", "script"},
		{"pgbridge.begin", "begin", "begun"},
	} {
		alike(t, d.example(t, c.answer), b.ask(c.subject, d.example(t, c.question)))
	}
	alike(t, d.example(t, "result with rows"), b.ask("pgbridge.run.account", example{Payload: []byte(`{"params": {"id": 1}}`)}))
	overdraft := []byte(`{"params": {"source": 1, "target": 2, "amount": "9999.50"}}`)
	alike(t, d.example(t, "error of a statement"), b.ask("pgbridge.run.transfer", example{Payload: overdraft}))
}

// TestTransactionExamplesAreReal does the same for a pinned transaction.
func TestTransactionExamplesAreReal(t *testing.T) {
	t.Parallel()
	b, d := newBench(t), asyncapi(t)
	var begun struct{ Tx string }
	if err := json.Unmarshal(b.ask("pgbridge.begin", d.example(t, "empty")).Data, &begun); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ verb, question, answer string }{
		{"savepoint", "savepoint", "savepoint set"},
		{"run", "sql", "result in a transaction"},
		{"rollback_to", "savepoint", "savepoint set"},
		{"release", "savepoint", "savepoint set"},
		{"touch", "empty", "touched"},
		{"commit", "empty", "committed"},
		{"touch", "empty", "gone"},
	} {
		alike(t, d.example(t, c.answer), b.ask(begun.Tx+"."+c.verb, d.example(t, c.question)))
	}
}

// TestJobExamplesAreReal does the same for jobs.
func TestJobExamplesAreReal(t *testing.T) {
	t.Parallel()
	b, d := newBench(t), asyncapi(t)
	results, failed := subscribe(t, b.client, "pgbridge.result.>"), subscribe(t, b.client, "pgbridge.failed.>")
	for _, c := range []struct{ subject, answer string }{
		{"pgbridge.job.run.transfer", "job result"},
		{"pgbridge.job.run.transfers", "job error"},
	} {
		question := d.example(t, "job")
		question.Headers = map[string]string{nats.MsgIdHdr: strings.ReplaceAll(c.subject, ".", "-")}
		if ack := b.ask(c.subject, question); !strings.Contains(string(ack.Data), `"stream":"PGBRIDGE_JOBS"`) {
			t.Errorf("%s is acknowledged with %s", c.subject, ack.Data)
		}
		result, err := results.NextMsg(patience)
		if err != nil {
			t.Fatalf("receive the result of %s: %v", c.subject, err)
		}
		alike(t, d.example(t, c.answer), result)
	}
	kept, err := failed.NextMsg(patience)
	if err != nil {
		t.Fatalf("receive the job that failed: %v", err)
	}
	for name := range kept.Header { // JetStream's own
		if strings.HasPrefix(name, "Nats-") {
			delete(kept.Header, name)
		}
	}
	alike(t, d.example(t, "failed job"), kept)
}

// TestCodesAreDocumented compares the codes with the table and with
// asyncapi.yaml.
func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	numbers := map[string]string{}
	for _, code := range api.Codes() {
		numbers[string(code)] = strconv.Itoa(code.Number())
	}
	table := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\d{3}) \\|").FindAllStringSubmatch(read(t, "requests.md"), -1) {
		table[row[1]] = row[2]
	}
	if !maps.Equal(table, numbers) {
		t.Errorf("requests.md has the codes %v, want %v", table, numbers)
	}
	listed := asyncapi(t).Components.Schemas.Error.Properties.Error.Properties.Code.Enum
	if got, want := slices.Sorted(slices.Values(listed)), slices.Sorted(maps.Keys(numbers)); !slices.Equal(got, want) {
		t.Errorf("asyncapi.yaml has the codes %v, want %v", got, want)
	}
}

// TestSettingsAreDocumented compares the table of a script's settings with
// those that the parser knows.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	_, err := script.Parse("x", "x.sql", []byte("-- nothing: like this\nSELECT 1"))
	known := regexp.MustCompile(`known are ([a-z_, ]+)`).FindStringSubmatch(err.Error())
	_, section, _ := strings.Cut(read(t, "requests.md"), "### Settings")
	section, _, _ = strings.Cut(section, "\n#")
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, row[1])
	}
	compare(t, "settings", documented, strings.Split(known[1], ", "))
}

// TestScriptsShownAreScripts parses each script that a document shows.
func TestScriptsShownAreScripts(t *testing.T) {
	t.Parallel()
	shown := 0
	for _, document := range []string{"../README.md", "requests.md"} {
		for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(read(t, document), -1) {
			shown++
			if _, err := script.Parse("shown", document, []byte(block[1])); err != nil {
				t.Errorf("%s\n%v", block[1], err)
			}
		}
	}
	if shown < 4 {
		t.Errorf("%d scripts are shown, want at least 4", shown)
	}
}

// TestLimitsAreDocumented finds the limits that the program has in requests.md.
func TestLimitsAreDocumented(t *testing.T) {
	t.Parallel()
	text := read(t, "requests.md")
	for _, said := range []string{
		fmt.Sprintf("| script file | %d MiB |", script.MaxBytes>>20),
		fmt.Sprintf("| notices | %d KiB for each", api.MaxNoticeBytes>>10),
		fmt.Sprintf("| message id | %d bytes", api.MaxMessageIDBytes),
		fmt.Sprintf("| caller | %d bytes", api.MaxCallerBytes),
		fmt.Sprintf("| wait for a connection | %.0f s", api.ConnectionWait.Seconds()),
		fmt.Sprintf("| %s are served at a time", thousands(api.MaxServed)),
		fmt.Sprintf(", %s wait, as far as", thousands(api.MaxWaiting)),
		fmt.Sprintf("| requests that wait on a pinned transaction | %d |", api.MaxWaitingInTransaction),
		fmt.Sprintf("| ended transactions whose reason is known | the last %s of", thousands(api.RememberedEnds)),
		fmt.Sprintf("%d KiB", api.MaxTextBytes>>10),
	} {
		if !strings.Contains(text, said) {
			t.Errorf("requests.md does not say %q", said)
		}
	}
}

// thousands writes a number of four digits as people do.
func thousands(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }
