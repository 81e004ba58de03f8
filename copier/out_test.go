package copier_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

const (
	itemTable = "CREATE TABLE item (id int PRIMARY KEY, name text);"
	items     = itemTable + "INSERT INTO item SELECT g, 'name ' || g FROM generate_series(1, 5000) g;"
	// exportAndDelete loses rows if it commits without having been received.
	exportAndDelete = "COPY (SELECT * FROM item ORDER BY id) TO STDOUT;\nDELETE FROM item"
	// endless fills every buffer on the way.
	endless = "DELETE FROM item;\nCOPY (SELECT g, 'name ' || g FROM (SELECT generate_series(1, 20000000) AS g) s) TO STDOUT"
	small   = `{"chunk_bytes": 1000, "window_bytes": 2000}`
)

func TestDownload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{
		"export": "COPY (SELECT * FROM item ORDER BY id) TO STDOUT", "move": exportAndDelete,
	}})
	d := w.download("copy.export", `{"chunk_bytes": 4096, "window_bytes": 8192, "id": "e1", "stall_ms": 5000}`)
	if d.failure != nil {
		t.Fatalf("%+v", *d.failure)
	}
	equal(t, "data", string(d.data), string(lines(1, 5001)))
	equal(t, "rows", d.end.header.Get("Pgbridge-Rows"), "5000")
	equal(t, "state at the end", d.end.header.Get("Pgbridge-Transaction"), "ended")
	equal(t, "state at the beginning", d.opening.header.Get("Pgbridge-Transaction"), "active")
	for field, want := range map[string]string{"id": "e1", "chunk_bytes": "4096", "window_bytes": "8192", "stall_ms": "5000"} {
		equal(t, field, d.opening.text(field), want)
	}
	if !strings.HasPrefix(d.opening.text("tx"), "pgbridge.tx.") {
		t.Errorf("tx %q", d.opening.text("tx"))
	}
	d = w.download("as.alice.copy.move", "")
	equal(t, "rows", d.end.header.Get("Pgbridge-Rows"), "5000")
	equal(t, "left", w.rows("item"), 0)
	w.clean()
}

func TestDownloadBelowTheWindowNeedsNoAcknowledgement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{"move": exportAndDelete}})
	in := w.request(w.client, "copy.move", "")
	var size int
	for range 2 {
		size += len(in.next().body)
	}
	end := in.next()
	equal(t, "bytes", end.header.Get("Pgbridge-Bytes") != "" && size > 0, true)
	equal(t, "left", w.rows("item"), 0)
}

func TestChunksHoldWholeRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{scripts: map[string]string{
		"export": "COPY (SELECT repeat('x', n) FROM unnest(@sizes::int[]) WITH ORDINALITY AS s(n, i) ORDER BY i) TO STDOUT",
	}})
	in := w.request(w.client, "copy.export", `{"params": {"sizes": "{10,10,500,10,99,98,10,300000}"}, "chunk_bytes": 100}`)
	in.next().good(t)
	for i, want := range []int{22, 501, 11, 100, 99, 11, 300001} {
		r := in.next()
		if len(r.body) != want || r.body[want-1] != '\n' {
			t.Errorf("chunk %d has %d bytes, want %d whole rows", i+1, len(r.body), want)
		}
		in.ack(r)
	}
	equal(t, "rows", in.next().header.Get("Pgbridge-Rows"), "8")
}

func TestDownloadFormats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{
		"csv":    `COPY (SELECT id, 'a"' || E'\n' AS x FROM item WHERE id < 3 ORDER BY id) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)`,
		"binary": "COPY (SELECT id FROM item ORDER BY id) TO STDOUT (FORMAT binary)",
		"empty":  "COPY (SELECT 1 WHERE false) TO STDOUT",
		"legacy": "COPY item TO STDOUT WITH CSV",
	}})
	d := w.download("copy.csv", "")
	equal(t, "CSV", string(d.data), "id,x\n\"1\",\"a\"\"\n\"\n\"2\",\"a\"\"\n\"\n")
	equal(t, "rows without the header", d.end.header.Get("Pgbridge-Rows"), "2")
	d = w.download("copy.binary", small)
	equal(t, "rows without the trailer", d.end.header.Get("Pgbridge-Rows"), "5000")
	if !strings.HasPrefix(string(d.data), "PGCOPY\n\xff\r\n\x00") || !strings.HasSuffix(string(d.data), "\xff\xff") {
		t.Error("the binary format is cut")
	}
	d = w.download("copy.empty", "")
	equal(t, "rows of nothing", d.end.header.Get("Pgbridge-Rows"), "0")
	equal(t, "rows", w.download("copy.legacy", "").end.header.Get("Pgbridge-Rows"), "5000")
}

func TestHostileParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{
		"two": "COPY (SELECT @value::text, @other, length(@other::text) FROM item WHERE id = @id) TO STDOUT",
	}})
	for _, value := range []string{
		"", "'", "''", `\`, `\'`, `'; DROP TABLE item; --`, "$1", "$$", "@other", "/* ", "*/", "--", "E'\\x41'",
		"ü'\\", "a\nb", "\u2028", "%s", `"`, ");SELECT 1;(", "\\.", "U&'\\0041'",
	} {
		params, err := json.Marshal(map[string]any{"params": map[string]any{"value": value, "other": "'", "id": 1}})
		if err != nil {
			t.Fatal(err)
		}
		d := w.download("copy.two", string(params))
		if d.failure != nil {
			t.Errorf("%q: %+v", value, *d.failure)
			continue
		}
		want := strings.NewReplacer("\\", "\\\\", "\n", "\\n").Replace(value) + "\t'\t1\n"
		equal(t, "copy of a hostile value", string(d.data), want)
	}
	equal(t, "rows of the table", w.rows("item"), 5000)
	for body, code := range map[string]service.Code{
		`{"params": {"value": null, "other": true, "id": "1"}}`:              "",
		`{"params": {"value": [1], "other": 1, "id": 1}}`:                    service.CodeInvalidRequest,
		`{"params": {"value": {"a": 1}, "other": 1, "id": 1}}`:               service.CodeInvalidRequest,
		`{"params": {"value": "\u0000", "other": 1, "id": 1}}`:               service.CodeInvalidRequest,
		`{"params": {"value": "a", "other": 1}}`:                             service.CodeInvalidRequest,
		`{"params": {"value": "a", "other": 1, "id": 1, "more": 1}}`:         service.CodeInvalidRequest,
		`{"params": {"value": "a", "other": 1, "id": "1; DROP TABLE item"}}`: service.CodeSQLError,
	} {
		d := w.download("copy.two", body)
		if code == "" {
			equal(t, "copy of null, true and a number", string(d.data), "\\N\ttrue\t4\n")
			continue
		}
		if d.failure == nil || d.failure.Code != code {
			t.Errorf("%s: %+v, want %s", body, d.failure, code)
		}
	}
	equal(t, "rows of the table", w.rows("item"), 5000)
	w.clean()
}

func TestRequestsThatAreNoCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		schema:  items,
		scripts: map[string]string{"run": "SELECT 1", "export": "COPY item TO STDOUT", "gone": "SELECT 2;\nCOPY (SELECT *\nFROM nothing) TO STDOUT"},
		runner:  func(c *txrunner.Config) { c.SQL = &txrunner.SQL{} },
	})
	for to, bodies := range map[string]map[string]service.Code{
		"copy.run":     {"": service.CodeInvalidRequest},
		"copy.missing": {"": service.CodeNotFound},
		"copy.gone":    {"": service.CodeSQLError},
		"copy.export": {
			`{"id": "a.b"}`: service.CodeInvalidRequest, `{"id": ""}`: service.CodeInvalidRequest, `{"id": 1}`: service.CodeInvalidRequest,
			`{"chunk_bytes": 0}`: service.CodeInvalidRequest, `{"chunk_bytes": -5}`: service.CodeInvalidRequest,
			`{"window_bytes": "x"}`: service.CodeInvalidRequest, `{"stall_ms": 0}`: service.CodeInvalidRequest,
			`{"nothing": 1}`: service.CodeInvalidRequest, `{"object": 1}`: service.CodeInvalidRequest,
			`{"object": {"bucket": "b", "name": "n"}}`: service.CodeDenied, `{"object": {"bucket": "b"}}`: service.CodeInvalidRequest,
		},
		"copy": {
			`{"sql": "COPY item TO '/tmp/x'"}`:            service.CodeInvalidRequest,
			`{"sql": "COPY item FROM PROGRAM 'id'"}`:      service.CodeInvalidRequest,
			`{"sql": "COPY item FROM '/etc/passwd'"}`:     service.CodeInvalidRequest,
			`{"sql": "SELECT 1"}`:                         service.CodeInvalidRequest,
			`{"sql": "COPY item TO STDOUT; COMMIT"}`:      service.CodeInvalidRequest,
			`{"sql": "COPY item TO STDOUT (FORMAT nix)"}`: service.CodeSQLError,
		},
	} {
		for body, code := range bodies {
			d := w.download(to, body)
			if d.failure == nil || d.failure.Code != code {
				t.Errorf("%s %s: %+v, want %s", to, body, d.failure, code)
			}
		}
	}
	gone := w.ask("copy.gone", "").wants(t, service.CodeSQLError).failure
	if gone.Statement != 2 || gone.Line != 3 || gone.SQLState != "42P01" {
		t.Errorf("the error says statement %d, line %d, %s", gone.Statement, gone.Line, gone.SQLState)
	}
	w.ask("copy.export", "", nats.MsgIdHdr, "m1").wants(t, service.CodeInvalidRequest)
	w.ask("run.export", "").wants(t, service.CodeInvalidRequest)
	equal(t, "rows by a request's own SQL", w.download("copy", `{"sql": "COPY item TO STDOUT"}`).end.header.Get("Pgbridge-Rows"), "5000")
	w.clean()
}

// interrupted begins a download that cannot end, and returns it when the window
// is full.
func interrupted(t *testing.T, o options) (*world, *inbox, reply) {
	t.Helper()
	o.schema, o.scripts = items, map[string]string{"endless": endless, "export": "COPY item TO STDOUT"}
	w := newWorld(t, o)
	in := w.request(w.client, "copy.endless", small)
	opening := in.next().good(t)
	for range 2 {
		in.next()
	}
	return w, in, opening
}

// unharmed checks that nothing is left of the copy, and that the next one works.
func (w *world) unharmed() {
	w.t.Helper()
	w.clean()
	equal(w.t, "rows of the table", w.rows("item"), 5000)
	d := w.download("copy.export", "")
	equal(w.t, "rows of the next copy", d.end.header.Get("Pgbridge-Rows"), "5000")
}

// aborted receives the error that ends a download.
func (i *inbox) aborted(code service.Code) {
	i.w.t.Helper()
	for {
		r := i.next()
		if r.failure == nil && len(r.body) > 0 {
			continue // a chunk that was under way
		}
		r.wants(i.w.t, code)
		break
	}
	if end := i.next(); len(end.body) > 0 || end.header.Get("Pgbridge-Rows") != "" {
		i.w.t.Errorf("the end after an error is %q %v", end.body, end.header)
	}
}

func TestDownloadIsRolledBack(t *testing.T) {
	t.Parallel()
	w, in, opening := interrupted(t, options{})
	w.ask(opening.text("tx")+".rollback", "").good(t)
	in.aborted(service.CodeGone)
	w.unharmed()
}

func TestDownloadStalls(t *testing.T) {
	t.Parallel()
	w, in, _ := interrupted(t, options{copier: func(c *copierConfig) { c.Stall = 50 * time.Millisecond }})
	in.aborted(service.CodeTimeout)
	w.unharmed()
}

func TestDownloadAcknowledgesWhatWasNeverSent(t *testing.T) {
	t.Parallel()
	w, in, opening := interrupted(t, options{})
	to := opening.text("tx") + ".ack." + opening.text("id")
	if err := w.client.Publish(to+".99", nil); err != nil {
		t.Fatal(err)
	}
	in.aborted(service.CodeInvalidRequest)
	w.unharmed()
}

func TestDownloadByAClientThatVanishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{"endless": endless, "move": exportAndDelete, "export": "COPY item TO STDOUT"}})
	t.Run("mid-way", func(t *testing.T) {
		client := connect(t, w.nats.URL())
		in := w.request(client, "copy.endless", small)
		in.next().good(t)
		first := in.next()
		client.Close()
		// It is noticed with the next chunk, for which there has to be room.
		testenv.Wait(t, patience, "the client to be gone", func() bool {
			_, err := w.client.Request(in.sub.Subject, nil, time.Second)
			return err == nats.ErrNoResponders
		})
		in.ack(first)
		w.unharmed()
	})
	t.Run("before a result that fits the window", func(t *testing.T) {
		client := connect(t, w.nats.URL())
		sub, err := client.SubscribeSync("_INBOX.gone")
		if err != nil {
			t.Fatal(err)
		}
		// The inbox is gone when the request comes.
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		if err := client.PublishRequest("pgbridge.copy.move", "_INBOX.gone", nil); err != nil {
			t.Fatal(err)
		}
		testenv.Wait(t, patience, "the copy to fail", func() bool {
			return w.logs.FilterMessage("request failed").Len() > 0
		})
		w.unharmed()
	})
}

// TestDownloadAbortedWhileItWaitsForRows has PostgreSQL send nothing that would
// show the copy that it has failed.
func TestDownloadAbortedWhileItWaitsForRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{
		"slow":   "DELETE FROM item;\nCOPY (SELECT repeat('x', 20000), CASE WHEN g = 9 THEN pg_sleep(600)::text END FROM generate_series(1, 9) g) TO STDOUT",
		"export": "COPY item TO STDOUT",
	}})
	in := w.request(w.client, "copy.slow", `{"chunk_bytes": 1000, "id": "x"}`)
	opening := in.next().good(t)
	in.next()
	if err := w.client.Publish(opening.text("tx")+".ack.x.99", nil); err != nil {
		t.Fatal(err)
	}
	in.aborted(service.CodeInvalidRequest)
	w.unharmed()
}

func TestDownloadLosesPostgreSQL(t *testing.T) {
	t.Parallel()
	w, in, _ := interrupted(t, options{runner: func(c *txrunner.Config) { c.ApplicationName = "victim" }})
	testenv.TerminateBackend(t, w.pg, "victim%")
	for in.last.failure == nil { // what PostgreSQL had sent by then still comes
		in.ackLast()
		in.next()
	}
	in.last.wants(t, service.CodeUnavailable)
	equal(t, "rows at the end", in.next().header.Get("Pgbridge-Rows"), "")
	w.unharmed()
}

func TestDownloadOverAReconnect(t *testing.T) {
	t.Parallel()
	w, _, _ := interrupted(t, options{})
	w.nats.Stop(t)
	w.nats.Start(t)
	testenv.Wait(t, patience, "the links to be back", func() bool { return w.client.IsConnected() && w.requests.IsConnected() })
	w.unharmed()
}

func TestDownloadWithARowOf100MB(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{
		"large":  "DELETE FROM item;\nCOPY (SELECT repeat('x', 100 * 1000 * 1000)) TO STDOUT",
		"export": "COPY item TO STDOUT",
	}})
	in := w.request(w.client, "copy.large", "")
	in.next().good(t)
	in.aborted(service.CodeTooLarge)
	w.unharmed()
}

func TestDownloadFailsAtCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items + failAtCommit, scripts: map[string]string{
		"late":   "COPY item TO STDOUT;\nINSERT INTO late VALUES (1)",
		"after":  "COPY item TO STDOUT;\nSELECT 1 / 0",
		"export": "COPY item TO STDOUT",
	}})
	for _, script := range []string{"late", "after"} {
		in := w.request(w.client, "copy."+script, "")
		in.next().good(t)
		in.aborted(service.CodeSQLError)
	}
	equal(t, "rows of the other table", w.rows("late"), 0)
	w.unharmed()
}

// failAtCommit is a table that refuses rows when they are committed, as a full
// disk does.
const failAtCommit = `CREATE TABLE late (id int, name text);
	CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END$$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION full_disk();`

func TestDownloadInAPinnedTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{
		"export": "COPY (SELECT * FROM item ORDER BY id) TO STDOUT", "wrong": "COPY nothing TO STDOUT", "endless": endless,
		"clear": "DELETE FROM item",
	}})
	tx := w.ask("begin", "").good(t).text("tx")
	w.ask(tx+".run.clear", "").good(t)
	d := w.download(tx+".copy.export", "")
	equal(t, "rows", d.end.header.Get("Pgbridge-Rows"), "0")
	equal(t, "state", d.end.header.Get("Pgbridge-Transaction"), "active")
	w.ask(tx+".savepoint", `{"name": "s"}`).good(t)
	w.ask(tx+".copy.wrong", "").wants(t, service.CodeSQLError)
	failed := w.ask(tx+".copy.export", "").wants(t, service.CodeSQLError)
	equal(t, "state", failed.header.Get("Pgbridge-Transaction"), "failed")
	w.ask(tx+".rollback_to", `{"name": "s"}`).good(t)

	in := w.request(w.client, tx+".copy.endless", `{"chunk_bytes": 1000, "window_bytes": 2000, "id": "x"}`)
	in.next().good(t)
	if err := w.client.Publish(tx+".ack.x.77", nil); err != nil {
		t.Fatal(err)
	}
	in.aborted(service.CodeInvalidRequest)
	w.ask(tx+".rollback_to", `{"name": "s"}`).good(t)
	equal(t, "rows", w.download(tx+".copy.export", "").end.header.Get("Pgbridge-Rows"), "0")
	w.ask(tx+".copy.export", "", nats.MsgIdHdr, "m1").wants(t, service.CodeInvalidRequest)
	w.ask(tx+".commit", "").good(t)
	equal(t, "rows", w.rows("item"), 0)
	w.clean()
}

// TestDownloadThatNobodyGotFailsATransaction has PostgreSQL complete a COPY
// whose rows are not received, and which has done something.
func TestDownloadThatNobodyGotFailsATransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		schema: items, scripts: map[string]string{"take": "COPY (DELETE FROM item WHERE id <= 3 RETURNING *) TO STDOUT", "export": "COPY item TO STDOUT"},
		copier: func(c *copierConfig) { c.Stall = 50 * time.Millisecond },
	})
	tx := w.ask("begin", "").good(t).text("tx")
	w.ask(tx+".savepoint", `{"name": "s"}`).good(t)
	in := w.request(w.client, tx+".copy.take", `{"chunk_bytes": 1, "window_bytes": 1}`)
	in.next().good(t)
	in.aborted(service.CodeTimeout)
	equal(t, "state", w.ask(tx+".run", `{"sql": "SELECT 1"}`).header.Get("Pgbridge-Transaction"), "failed")
	w.ask(tx+".rollback_to", `{"name": "s"}`).good(t)
	w.ask(tx+".commit", "").good(t)
	w.unharmed()
}

func TestDownloadAtAStop(t *testing.T) {
	t.Parallel()
	w, in, _ := interrupted(t, options{runner: func(c *txrunner.Config) { c.StopGrace = time.Millisecond }})
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	in.aborted(service.CodeUnavailable)
	w.clean()
	equal(t, "rows", w.rows("item"), 5000)
}

// TestDownloadEndsWithinTheGrace acknowledges after the stop has begun.
func TestDownloadEndsWithinTheGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{"move": exportAndDelete}})
	in := w.request(w.client, "copy.move", small)
	opening := in.next().good(t)
	first := in.next()
	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }()
	testenv.Wait(t, patience, "new copies to be refused", func() bool {
		_, err := w.client.Request("pgbridge.copy.move", nil, 50*time.Millisecond)
		return err == nats.ErrNoResponders
	})
	in.ack(first)
	d := download{opening: opening, chunks: 1, data: first.body}
	for d.end.header == nil {
		r := in.next().good(t)
		if len(r.body) == 0 {
			d.end = r
			break
		}
		d.data = append(d.data, r.body...)
		in.ack(r)
	}
	d.check(t)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	equal(t, "rows", w.rows("item"), 0)
}

func TestProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{"endless": endless},
		copier: func(c *copierConfig) { c.ProgressEvery = time.Millisecond }})
	sub, err := w.client.SubscribeSync("pgbridge.progress.p1")
	if err != nil {
		t.Fatal(err)
	}
	in := w.request(w.client, "copy.endless", `{"id": "p1", "chunk_bytes": 1000, "window_bytes": 2000}`)
	opening := in.next().good(t)
	in.next()
	testenv.Wait(t, patience, "progress to show rows", func() bool {
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		var p struct {
			ID, Script string
			Rows       int64
			Bytes      int64
			TotalRows  *int64 `json:"total_rows"`
			TotalBytes *int64 `json:"total_bytes"`
		}
		if err := json.Unmarshal(m.Data, &p); err != nil {
			t.Fatal(err)
		}
		if p.ID != "p1" || p.Script != "endless" || p.TotalRows != nil || p.TotalBytes != nil {
			t.Fatalf("progress %s", m.Data)
		}
		return p.Rows > 0 && p.Bytes > 0
	})
	w.ask(opening.text("tx")+".rollback", "").good(t)
	in.aborted(service.CodeGone)
}
