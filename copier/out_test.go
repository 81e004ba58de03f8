package copier_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/subject"
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
	if d.Error != nil {
		t.Fatalf("%+v", *d.Error)
	}
	harness.Equal(t, "data", string(d.data), string(lines(1, 5001)))
	harness.Equal(t, "rows", d.end.Header.Get("Pgbridge-Rows"), "5000")
	harness.Equal(t, "state at the end", d.end.Header.Get("Pgbridge-Transaction"), "ended")
	harness.Equal(t, "state at the beginning", d.opening.Header.Get("Pgbridge-Transaction"), "active")
	for field, want := range map[string]string{"id": "e1", "chunk_bytes": "4096", "window_bytes": "8192", "stall_ms": "5000"} {
		harness.Equal(t, field, d.opening.Text(field), want)
	}
	if !strings.HasPrefix(d.opening.Text("tx"), "pgbridge.tx.") {
		t.Errorf("tx %q", d.opening.Text("tx"))
	}
	d = w.download("as.alice.copy.move", "")
	harness.Equal(t, "rows", d.end.Header.Get("Pgbridge-Rows"), "5000")
	harness.Equal(t, "left", w.rows("item"), 0)
	w.WantIdle()
}

func TestDownloadBelowTheWindowNeedsNoAcknowledgement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{"move": exportAndDelete}})
	in := w.Request(w.Client, "copy.move", "")
	var size int
	for range 2 {
		size += len(in.Next().Body)
	}
	end := in.Next()
	harness.Equal(t, "bytes", end.Header.Get("Pgbridge-Bytes") != "" && size > 0, true)
	harness.Equal(t, "left", w.rows("item"), 0)
}

func TestChunksHoldWholeRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{scripts: map[string]string{
		"export": "COPY (SELECT repeat('x', n) FROM unnest(@sizes::int[]) WITH ORDINALITY AS s(n, i) ORDER BY i) TO STDOUT",
	}})
	in := w.Request(w.Client, "copy.export", `{"params": {"sizes": "{10,10,500,10,99,98,10,300000}"}, "chunk_bytes": 100}`)
	in.Next().Good(t)
	for i, want := range []int{22, 501, 11, 100, 99, 11, 300001} {
		r := in.Next()
		if len(r.Body) != want || r.Body[want-1] != '\n' {
			t.Errorf("chunk %d has %d bytes, want %d whole rows", i+1, len(r.Body), want)
		}
		in.Ack(r)
	}
	harness.Equal(t, "rows", in.Next().Header.Get("Pgbridge-Rows"), "8")
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
	harness.Equal(t, "CSV", string(d.data), "id,x\n\"1\",\"a\"\"\n\"\n\"2\",\"a\"\"\n\"\n")
	harness.Equal(t, "rows without the header", d.end.Header.Get("Pgbridge-Rows"), "2")
	d = w.download("copy.binary", small)
	harness.Equal(t, "rows without the trailer", d.end.Header.Get("Pgbridge-Rows"), "5000")
	if !strings.HasPrefix(string(d.data), "PGCOPY\n\xff\r\n\x00") || !strings.HasSuffix(string(d.data), "\xff\xff") {
		t.Error("the binary format is cut")
	}
	d = w.download("copy.empty", "")
	harness.Equal(t, "rows of nothing", d.end.Header.Get("Pgbridge-Rows"), "0")
	harness.Equal(t, "rows", w.download("copy.legacy", "").end.Header.Get("Pgbridge-Rows"), "5000")
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
		if d.Error != nil {
			t.Errorf("%q: %+v", value, *d.Error)
			continue
		}
		want := strings.NewReplacer("\\", "\\\\", "\n", "\\n").Replace(value) + "\t'\t1\n"
		harness.Equal(t, "copy of a hostile value", string(d.data), want)
	}
	harness.Equal(t, "rows of the table", w.rows("item"), 5000)
	for body, code := range map[string]string{
		`{"params": {"value": null, "other": true, "id": "1"}}`:              "",
		`{"params": {"value": [1], "other": 1, "id": 1}}`:                    "invalid_request",
		`{"params": {"value": {"a": 1}, "other": 1, "id": 1}}`:               "invalid_request",
		`{"params": {"value": "\u0000", "other": 1, "id": 1}}`:               "invalid_request",
		`{"params": {"value": "a", "other": 1}}`:                             "invalid_request",
		`{"params": {"value": "a", "other": 1, "id": 1, "more": 1}}`:         "invalid_request",
		`{"params": {"value": "a", "other": 1, "id": "1; DROP TABLE item"}}`: "sql_error",
	} {
		d := w.download("copy.two", body)
		if code == "" {
			harness.Equal(t, "copy of null, true and a number", string(d.data), "\\N\ttrue\t4\n")
			continue
		}
		if d.Error == nil || d.Error.Code != code {
			t.Errorf("%s: %+v, want %s", body, d.Error, code)
		}
	}
	harness.Equal(t, "rows of the table", w.rows("item"), 5000)
	w.WantIdle()
}

func TestRequestsThatAreNoCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		schema:  items,
		scripts: map[string]string{"run": "SELECT 1", "export": "COPY item TO STDOUT", "gone": "SELECT 2;\nCOPY (SELECT *\nFROM nothing) TO STDOUT"},
		runner:  func(c *txrunner.Config) { c.SQL = &txrunner.SQL{} },
	})
	for to, bodies := range map[string]map[string]string{
		"copy.run":     {"": "invalid_request"},
		"copy.missing": {"": "not_found"},
		"copy.gone":    {"": "sql_error"},
		"copy.export": {
			`{"id": "a.b"}`: "invalid_request", `{"id": ""}`: "invalid_request", `{"id": 1}`: "invalid_request",
			`{"chunk_bytes": 0}`: "invalid_request", `{"chunk_bytes": -5}`: "invalid_request",
			`{"window_bytes": "x"}`: "invalid_request", `{"stall_ms": 0}`: "invalid_request",
			`{"nothing": 1}`: "invalid_request", `{"object": 1}`: "invalid_request",
			`{"object": {"bucket": "b", "name": "n"}}`: "denied", `{"object": {"bucket": "b"}}`: "invalid_request",
		},
		"copy": {
			`{"sql": "COPY item TO '/tmp/x'"}`:            "invalid_request",
			`{"sql": "COPY item FROM PROGRAM 'id'"}`:      "invalid_request",
			`{"sql": "COPY item FROM '/etc/passwd'"}`:     "invalid_request",
			`{"sql": "SELECT 1"}`:                         "invalid_request",
			`{"sql": "COPY item TO STDOUT; COMMIT"}`:      "invalid_request",
			`{"sql": "COPY item TO STDOUT (FORMAT nix)"}`: "sql_error",
		},
	} {
		for body, code := range bodies {
			d := w.download(to, body)
			if d.Error == nil || d.Error.Code != code {
				t.Errorf("%s %s: %+v, want %s", to, body, d.Error, code)
			}
		}
	}
	gone := w.download("copy.gone", "").Error
	if gone.Statement != 2 || gone.Line != 3 || gone.SQLState != "42P01" {
		t.Errorf("the error says statement %d, line %d, %s", gone.Statement, gone.Line, gone.SQLState)
	}
	w.Ask("copy.export", "", nats.MsgIdHdr, "m1").Wants(t, "invalid_request")
	w.Ask("run.export", "").Wants(t, "invalid_request")
	harness.Equal(t, "rows by a request's own SQL", w.download("copy", `{"sql": "COPY item TO STDOUT"}`).end.Header.Get("Pgbridge-Rows"), "5000")
	w.WantIdle()
}

// interrupted begins a download that cannot end, and returns it when the window
// is full.
func interrupted(t *testing.T, o options) (*world, *harness.Inbox, harness.Reply) {
	t.Helper()
	o.schema, o.scripts = items, map[string]string{"endless": endless, "export": "COPY item TO STDOUT"}
	w := newWorld(t, o)
	in := w.Request(w.Client, "copy.endless", small)
	opening := in.Next().Good(t)
	for range 2 {
		in.Next()
	}
	return w, in, opening
}

// unharmed checks that nothing is left of the copy, and that the next one works.
func (w *world) unharmed() {
	w.T.Helper()
	w.WantIdle()
	harness.Equal(w.T, "rows of the table", w.rows("item"), 5000)
	d := w.download("copy.export", "")
	harness.Equal(w.T, "rows of the next copy", d.end.Header.Get("Pgbridge-Rows"), "5000")
}

// aborted receives the error that ends a download.
func aborted(i *harness.Inbox, code string) {
	i.W.T.Helper()
	for {
		r := i.Next()
		if r.Error == nil && len(r.Body) > 0 {
			continue // the first message, or a chunk that was under way
		}
		r.Wants(i.W.T, code)
		break
	}
	if end := i.Next(); len(end.Body) > 0 || end.Header.Get("Pgbridge-Rows") != "" {
		i.W.T.Errorf("the end after an error is %q %v", end.Body, end.Header)
	}
}

func TestDownloadIsRolledBack(t *testing.T) {
	t.Parallel()
	w, in, opening := interrupted(t, options{})
	w.Ask(opening.Text("tx")+".rollback", "").Good(t)
	aborted(in, "gone")
	w.unharmed()
}

func TestDownloadStalls(t *testing.T) {
	t.Parallel()
	w, in, _ := interrupted(t, options{copier: func(c *copierConfig) { c.Stall = time.Second }})
	aborted(in, "timeout")
	w.unharmed()
}

func TestDownloadAcknowledgesWhatWasNeverSent(t *testing.T) {
	t.Parallel()
	w, in, opening := interrupted(t, options{})
	to := opening.Text("tx") + ".ack." + opening.Text("id")
	if err := w.Client.Publish(to+".99", nil); err != nil {
		t.Fatal(err)
	}
	aborted(in, "invalid_request")
	w.unharmed()
}

func TestDownloadByAClientThatVanishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{"endless": endless, "move": exportAndDelete, "export": "COPY item TO STDOUT"}})
	t.Run("mid-way", func(t *testing.T) {
		client := harness.Requests(t, w.NATS.URL())
		in := w.Request(client, "copy.endless", small)
		in.Next().Good(t)
		first := in.Next()
		client.Close()
		// It is noticed with the next chunk, for which there has to be room.
		testenv.Wait(t, harness.Patience, "the client to be gone", func() bool {
			_, err := w.Client.Request(in.Sub.Subject, nil, time.Second)
			return err == nats.ErrNoResponders
		})
		in.Ack(first)
		w.unharmed()
	})
	t.Run("before a result that fits the window", func(t *testing.T) {
		client := harness.Requests(t, w.NATS.URL())
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
		testenv.Wait(t, harness.Patience, "the copy to fail", func() bool {
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
	in := w.Request(w.Client, "copy.slow", `{"chunk_bytes": 1000, "id": "x"}`)
	opening := in.Next().Good(t)
	in.Next()
	if err := w.Client.Publish(opening.Text("tx")+".ack.x.99", nil); err != nil {
		t.Fatal(err)
	}
	aborted(in, "invalid_request")
	w.unharmed()
}

func TestDownloadLosesPostgreSQL(t *testing.T) {
	t.Parallel()
	w, in, _ := interrupted(t, options{runner: func(c *txrunner.Config) { c.ApplicationName = "victim" }})
	testenv.TerminateBackend(t, w.Postgres, "victim%")
	for in.Last.Error == nil { // what PostgreSQL had sent by then still comes
		in.Ack(in.Last)
		in.Next()
	}
	in.Last.Wants(t, "unavailable")
	harness.Equal(t, "rows at the end", in.Next().Header.Get("Pgbridge-Rows"), "")
	w.unharmed()
}

func TestDownloadOverAReconnect(t *testing.T) {
	t.Parallel()
	w, _, _ := interrupted(t, options{})
	w.NATS.Stop(t)
	w.NATS.Start(t)
	testenv.Wait(t, harness.Patience, "the links to be back", func() bool { return w.Client.IsConnected() && w.requests.IsConnected() })
	w.unharmed()
}

func TestDownloadWithARowOf100MB(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{
		"large":  "DELETE FROM item;\nCOPY (SELECT repeat('x', 100 * 1000 * 1000)) TO STDOUT",
		"export": "COPY item TO STDOUT",
	}})
	in := w.Request(w.Client, "copy.large", "")
	in.Next().Good(t)
	aborted(in, "too_large")
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
		in := w.Request(w.Client, "copy."+script, "")
		in.Next().Good(t)
		aborted(in, "sql_error")
	}
	harness.Equal(t, "rows of the other table", w.rows("late"), 0)
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
	tx := w.Ask("begin", "").Good(t).Text("tx")
	w.Ask(tx+".run.clear", "").Good(t)
	d := w.download(tx+".copy.export", "")
	harness.Equal(t, "rows", d.end.Header.Get("Pgbridge-Rows"), "0")
	harness.Equal(t, "state", d.end.Header.Get("Pgbridge-Transaction"), "active")
	w.Ask(tx+".savepoint", `{"name": "s"}`).Good(t)
	aborted(w.Request(w.Client, tx+".copy.wrong", ""), "sql_error")
	failed := w.Ask(tx+".copy.export", "").Wants(t, "sql_error")
	harness.Equal(t, "state", failed.Header.Get("Pgbridge-Transaction"), "failed")
	w.Ask(tx+".rollback_to", `{"name": "s"}`).Good(t)

	in := w.Request(w.Client, tx+".copy.endless", `{"chunk_bytes": 1000, "window_bytes": 2000, "id": "x"}`)
	in.Next().Good(t)
	if err := w.Client.Publish(tx+".ack.x.77", nil); err != nil {
		t.Fatal(err)
	}
	aborted(in, "invalid_request")
	w.Ask(tx+".rollback_to", `{"name": "s"}`).Good(t)
	harness.Equal(t, "rows", w.download(tx+".copy.export", "").end.Header.Get("Pgbridge-Rows"), "0")
	w.Ask(tx+".copy.export", "", nats.MsgIdHdr, "m1").Wants(t, "invalid_request")
	w.Ask(tx+".commit", "").Good(t)
	harness.Equal(t, "rows", w.rows("item"), 0)
	w.WantIdle()
}

// TestDownloadThatNobodyGotFailsATransaction has PostgreSQL complete a COPY
// whose rows are not received, and which has done something.
func TestDownloadThatNobodyGotFailsATransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		schema: items, scripts: map[string]string{"take": "COPY (DELETE FROM item WHERE id <= 3 RETURNING *) TO STDOUT", "export": "COPY item TO STDOUT"},
		copier: func(c *copierConfig) { c.Stall = time.Second },
	})
	tx := w.Ask("begin", "").Good(t).Text("tx")
	w.Ask(tx+".savepoint", `{"name": "s"}`).Good(t)
	in := w.Request(w.Client, tx+".copy.take", `{"chunk_bytes": 1, "window_bytes": 1}`)
	in.Next().Good(t)
	aborted(in, "timeout")
	harness.Equal(t, "state", w.Ask(tx+".run", `{"sql": "SELECT 1"}`).Header.Get("Pgbridge-Transaction"), "failed")
	w.Ask(tx+".rollback_to", `{"name": "s"}`).Good(t)
	w.Ask(tx+".commit", "").Good(t)
	w.unharmed()
}

func TestDownloadAtAStop(t *testing.T) {
	t.Parallel()
	w, in, _ := interrupted(t, options{runner: func(c *txrunner.Config) { c.StopGrace = time.Millisecond }})
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	aborted(in, "unavailable")
	w.WantIdle()
	harness.Equal(t, "rows", w.rows("item"), 5000)
}

// TestDownloadEndsWithinTheGrace acknowledges after the stop has begun.
func TestDownloadEndsWithinTheGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{"move": exportAndDelete}})
	in := w.Request(w.Client, "copy.move", small)
	opening := in.Next().Good(t)
	first := in.Next()
	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }()
	testenv.Wait(t, harness.Patience, "new copies to be refused", func() bool {
		_, err := w.Client.Request("pgbridge.copy.move", nil, 50*time.Millisecond)
		return err == nats.ErrNoResponders
	})
	in.Ack(first)
	d := download{opening: opening, chunks: 1, data: []byte(first.Body)}
	for d.end.Header == nil {
		r := in.Next().Good(t)
		if len(r.Body) == 0 {
			d.end = r
			break
		}
		d.data = append(d.data, r.Body...)
		in.Ack(r)
	}
	d.check(t)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	harness.Equal(t, "rows", w.rows("item"), 0)
}

func TestProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{"endless": endless},
		copier: func(c *copierConfig) { c.ProgressEvery = time.Millisecond }})
	sub, err := w.Client.SubscribeSync("pgbridge.progress.p1")
	if err != nil {
		t.Fatal(err)
	}
	in := w.Request(w.Client, "copy.endless", `{"id": "p1", "chunk_bytes": 1000, "window_bytes": 2000}`)
	opening := in.Next().Good(t)
	in.Next()
	testenv.Wait(t, harness.Patience, "progress to show rows", func() bool {
		m, err := sub.NextMsg(harness.Patience)
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
	w.Ask(opening.Text("tx")+".rollback", "").Good(t)
	aborted(in, "gone")
}

// TestNoticesOfCopies has the statements around a COPY, and its own query, say
// something.
func TestNoticesOfCopies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		schema: itemTable + `CREATE FUNCTION said(what text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE WARNING '%', what; RETURN what; END$$;
			CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE WARNING 'row %', new.id; RETURN new; END$$;
			CREATE TRIGGER told BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION told();
			CREATE CONSTRAINT TRIGGER last AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION told();`,
		scripts: map[string]string{
			"export": "SELECT said('before');\nCOPY (SELECT said('within ü\U0001F600')) TO STDOUT;\nSELECT said('after')",
			"import": "COPY item FROM STDIN", "silent": "COPY item TO STDOUT",
		},
	})
	end := w.upload("copy.import", "").all(lines(1, 3), 100).Good(t)
	harness.Equal(t, "notices of an import and its COMMIT", messages(end.Notices), "row 1, row 2, row 1, row 2")
	d := w.download("copy.export", "")
	var told []map[string]string
	if err := json.Unmarshal([]byte(d.end.Header.Get("Pgbridge-Notices")), &told); err != nil {
		t.Fatalf("header %q: %v", d.end.Header.Get("Pgbridge-Notices"), err)
	}
	harness.Equal(t, "notices of an export", messages(told), "before, within ü\U0001F600, after")
	if _, said := w.download("copy.silent", "").end.Header["Pgbridge-Notices"]; said {
		t.Error("a copy without notices has a header for them")
	}
}

func messages(notices []map[string]string) string {
	all := make([]string, len(notices))
	for i, n := range notices {
		all[i] = n["message"]
	}
	return strings.Join(all, ", ")
}

// TestDownloadIsCancelledBeforeItsFirstRow needs the transaction's subject while
// PostgreSQL has nothing to say yet.
func TestDownloadIsCancelledBeforeItsFirstRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{
		"slow":   "DELETE FROM item;\nCOPY (SELECT pg_sleep(600)) TO STDOUT",
		"export": "COPY item TO STDOUT",
	}})
	in := w.Request(w.Client, "copy.slow", "")
	w.Works(in.Next().Good(t).Tx+".rollback", "")
	aborted(in, "gone")
	w.unharmed()
}

// TestProgressOfTwoCallers has both name their copies alike.
func TestProgressOfTwoCallers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: items, scripts: map[string]string{"endless": endless, "other": strings.TrimPrefix(endless, "DELETE FROM item;\n")}, // which would wait for the first
		copier: func(c *copierConfig) { c.ProgressEvery = time.Millisecond }})
	for caller, script := range map[string]string{"alice": "endless", "b.ob": "other"} {
		sub, err := w.Client.SubscribeSync("pgbridge.progress." + subject.Token(caller) + ".p1")
		if err != nil {
			t.Fatal(err)
		}
		in := w.Request(w.Client, "as."+subject.Token(caller)+".copy."+script, `{"id": "p1"}`)
		tx := in.Next().Good(t).Tx
		for range 3 {
			m, err := sub.NextMsg(harness.Patience)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(m.Data), `"script":"`+script+`"`) {
				t.Errorf("%s hears of %s", caller, m.Data)
			}
		}
		defer w.Ask(tx+".rollback", "")
	}
}
