package copier_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

const upsert = `CREATE TEMP TABLE new (LIKE item) ON COMMIT DROP;
COPY new FROM STDIN;
INSERT INTO item SELECT * FROM new ON CONFLICT (id) DO UPDATE SET name = excluded.name`

// importing is a world with a table of two rows and scripts that fill it.
func importing(t *testing.T, o options) *world {
	t.Helper()
	o.schema += itemTable + "INSERT INTO item VALUES (-1, 'a'), (-2, 'b');"
	o.scripts = map[string]string{
		"import": "COPY item FROM STDIN", "csv": "COPY item FROM STDIN (FORMAT csv)", "upsert": upsert,
		"late": "COPY late FROM STDIN", "binary": "COPY item FROM STDIN (FORMAT binary)",
		"export": "COPY item TO STDOUT (FORMAT binary)", "wrong": "DELETE FROM item;\nCOPY nothing FROM STDIN",
		"before": "DELETE FROM item;\nCOPY item FROM STDIN;\nSELECT count(*) FROM item",
		"latin":  "COPY item FROM STDIN (ENCODING 'LATIN1')",
		"params": "COPY item FROM STDIN (FORMAT csv, NULL @null) WHERE id > @least",
	}
	return newWorld(t, o)
}

// intact checks that an import has left nothing, and that the next one works.
func (w *world) intact() {
	w.T.Helper()
	w.WantIdle()
	harness.Equal(w.T, "rows of the table", w.rows("item"), 2)
	end := w.upload("copy.upsert", "").all(lines(-2, 3), 7).Good(w.T)
	harness.Equal(w.T, "rows of the next copy", end.Text("rows"), "5")
	harness.Equal(w.T, "rows in the end", w.rows("item"), 5)
}

func TestUpload(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("as.alice.copy.upsert", `{"id": "u1", "window_bytes": 100000, "chunk_bytes": 5000, "stall_ms": 9000}`)
	tx := u.opening.Good(t).Text("tx")
	harness.Equal(t, "where chunks go", u.to, tx+".data.u1")
	for field, want := range map[string]string{"id": "u1", "chunk_bytes": "5000", "window_bytes": "100000", "stall_ms": "9000"} {
		harness.Equal(t, field, u.opening.Text(field), want)
	}
	data := lines(-2, 5001)
	first := u.send(string(data[:10])).Good(t)
	harness.Equal(t, "number of the answer", first.Header.Get("Pgbridge-Seq"), "1")
	harness.Equal(t, "bytes of the answer", len(first.Body), 0)
	harness.Equal(t, "state", first.Header.Get("Pgbridge-Transaction"), "active")
	u.send(string(data[10:])).Good(t)
	hash := sha256.New()
	hash.Write(data)
	digest := api.FormatDigest(hash)
	end := u.send("", service.HeaderDigest, strings.TrimRight(digest, "=")).Good(t)
	harness.Equal(t, "number of the last answer", end.Header.Get("Pgbridge-Seq"), "3")
	harness.Equal(t, "state", end.Header.Get("Pgbridge-Transaction"), "ended")
	for field, want := range map[string]string{"id": "u1", "rows": "5003", "bytes": strconv.Itoa(len(data)), "digest": digest} {
		harness.Equal(t, field, end.Text(field), want)
	}
	if results := end.Body; !strings.Contains(results, `"results":[{"command":"CREATE TABLE","rows_affected":0},{"command":"INSERT 0 5003","rows_affected":5003}]`) {
		t.Errorf("reply %s", results)
	}
	harness.Equal(t, "rows", w.rows("item"), 5003)
	u.send("more").Wants(t, "gone")
	w.WantIdle()
}

func TestUploadFormats(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	harness.Equal(t, "rows of CSV", w.upload("copy.csv", "").all([]byte("1,\"a\nb\"\n2,\n"), 3).Good(t).Text("rows"), "2")
	harness.Equal(t, "rows of Latin 1", w.upload("copy.latin", "").all([]byte("3\tf\xfcr\n"), 1).Good(t).Text("rows"), "1")
	harness.Equal(t, "text", testenv.Value[string](t, w.Postgres, "SELECT name FROM item WHERE id = 3"), "für")
	params := w.upload("copy.params", `{"params": {"null": "it's \\N", "least": 5}}`)
	harness.Equal(t, "rows with parameters", params.all([]byte("6,it's \\N\n4,x\n"), 100).Good(t).Text("rows"), "1")
	harness.Equal(t, "NULL", testenv.Value[bool](t, w.Postgres, "SELECT name IS NULL FROM item WHERE id = 6"), true)
	binary := w.download("copy.export", "").data
	testenv.Exec(t, w.Postgres, "DELETE FROM item")
	harness.Equal(t, "rows of the binary format", w.upload("copy.binary", "").all(binary, 10).Good(t).Text("rows"), "6")
	harness.Equal(t, "rows of nothing", w.upload("copy.import", "").send("").Good(t).Text("rows"), "0")
	end := w.upload("copy.before", "").all([]byte("9\tz"), 100).Good(t) // the last line needs no end
	harness.Equal(t, "rows", end.Text("rows"), "1")
	if !strings.Contains(end.Body, `"rows":[[1]]`) {
		t.Errorf("reply %s, want the results of statements before and after", end.Body)
	}
	w.WantIdle()
}

func TestUploadsThatPostgreSQLRefuses(t *testing.T) {
	t.Parallel()
	many := string(lines(1, 2000))
	for name, tt := range map[string]struct {
		script, data string
		state, where string
	}{
		"a bad value in the middle": {"import", many + "x\ty\n" + many, "22P02", "line 2000, column id"},
		"a repeated key":            {"import", many + "7\ty\n", "23505", "line 2000"},
		"too few columns":           {"csv", "1,a\n2\n3,c\n", "22P04", "line 2"},
		"too many columns":          {"csv", "1,a\n2,b,c\n", "22P04", "line 2"},
		"wrong encoding":            {"import", "1\tf\xfcr\n", "22021", "line 1"},
		"a NUL byte":                {"import", "1\ta\x00b\n", "22021", "line 1"},
		"no binary format":          {"binary", "1\ta\n", "22P04", ""},
		"the disk full at COMMIT":   {"late", many, "53100", ""},
		"a conflict afterwards":     {"upsert", "1\ta\n1\tb\n", "21000", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := importing(t, options{schema: failAtCommit})
			u := w.upload("copy."+tt.script, "")
			u.opening.Good(t)
			failure := u.until(tt.data, 5000).Wants(t, "sql_error").Error
			if failure.SQLState != tt.state || !strings.Contains(failure.Where, tt.where) {
				t.Errorf("%s, %q, want %s, %q", failure.SQLState, failure.Where, tt.state, tt.where)
			}
			u.send("x").Wants(t, "gone")
			harness.Equal(t, "rows of the other table", w.rows("late"), 0)
			w.intact()
		})
	}
}

// until sends data and the end until there is an error, which it returns.
func (u *upload) until(data string, size int) harness.Reply {
	u.w.T.Helper()
	for data != "" {
		n := min(size, len(data))
		if r := u.send(data[:n]); r.Error != nil {
			return r
		}
		data = data[n:]
	}
	return u.send("")
}

func TestUploadThatCannotBegin(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	failure := w.Ask("copy.wrong", "").Wants(t, "sql_error").Error
	if failure.Statement != 2 || failure.SQLState != "42P01" {
		t.Errorf("the error says statement %d, %s", failure.Statement, failure.SQLState)
	}
	w.Ask("copy.import", "", nats.MsgIdHdr, "m1").Wants(t, "invalid_request")
	if err := w.Client.Publish("pgbridge.copy.import", nil); err != nil { // nobody would know where to
		t.Fatal(err)
	}
	w.intact()
}

func TestChunksOutOfOrder(t *testing.T) {
	t.Parallel()
	for name, numbers := range map[string][]string{
		"lost": {"1", "3"}, "repeated": {"1", "1"}, "reordered": {"2"}, "not numbered": {""}, "no number": {"x"},
		"from zero": {"0"}, "after the end": {"1", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := importing(t, options{})
			u := w.upload("copy.import", "")
			u.opening.Good(t)
			for i, number := range numbers {
				r := w.Ask(u.to, string(lines(i, i+1)), service.HeaderSeq, number)
				if i < len(numbers)-1 {
					r.Good(t)
				} else {
					r.Wants(t, "invalid_request")
				}
			}
			w.Ask(u.to, "", service.HeaderSeq, "2").Wants(t, "gone")
			w.intact()
		})
	}
}

func TestUploadOverrunsTheWindow(t *testing.T) {
	t.Parallel()
	w := importing(t, options{schema: `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END$$;`})
	testenv.Exec(t, w.Postgres, "CREATE TRIGGER wait BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION wait()")
	conn, err := pgx.Connect(limited(t), w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(limited(t))
	if _, err := conn.Exec(limited(t), "SELECT pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}
	u := w.upload("copy.import", `{"window_bytes": 1000000}`)
	u.opening.Good(t)
	in := w.Request(w.Client, "describe", "")
	in.Next()
	data := lines(1, 40000)
	for i := range 40 { // more than the buffers on the way to PostgreSQL hold
		m := nats.NewMsg(u.to)
		m.Reply, m.Data = in.Sub.Subject, data
		m.Header.Set(service.HeaderSeq, strconv.Itoa(i+1))
		if err := w.Client.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	for in.Last.Error == nil {
		in.Next()
	}
	in.Last.Wants(t, "invalid_request")
	if err := conn.Close(limited(t)); err != nil {
		t.Fatal(err)
	}
	w.intact()
}

// Windows of uploads are memory that requests hold: there is no more of it than there
// is, and it comes back.
func TestWindowsOfUploadsCount(t *testing.T) {
	t.Parallel()
	const budget = 8 << 20
	w := importing(t, options{runner: func(c *txrunner.Config) { c.RequestBytes, c.PinnedConnections = budget, 40 }})
	window := func(u *upload) int {
		n, err := strconv.ParseFloat(u.opening.Good(t).Text("window_bytes"), 64)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	var open []*upload
	sum := 0
	for range 40 {
		u := w.upload("copy.import", `{"window_bytes": 2000000}`)
		if u.opening.Error != nil {
			harness.Equal(t, "the refusal", u.opening.Error.Code, "busy")
			break
		}
		sum += window(u)
		open = append(open, u)
	}
	if sum > budget || sum < budget/2 || len(open) == 40 {
		t.Errorf("%d uploads have windows of %d bytes together", len(open), sum)
	}
	for i, u := range open {
		u.send(fmt.Sprintf("%d\tx\n", i)).Good(t)
		u.send("").Good(t)
	}
	harness.Equal(t, "the window when they are over", window(w.upload("copy.import", `{"window_bytes": 2000000}`)), 2000000)
}

func TestUploadWithTheWrongDigest(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).Good(t)
	u.send("", service.HeaderDigest, "SHA-256=AAAA").Wants(t, "invalid_request")
	w.intact()
}

func TestUploadGoesOnAfterTheEndMarker(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", "")
	u.opening.Good(t)
	u.until("\\.\n1\ta\n", 3).Wants(t, "invalid_request")
	u = w.upload("copy.csv", "")
	u.opening.Good(t)
	if end := u.until("7,a\n\\.\n1,a\n", 3); harness.Value[int](w.World, "SELECT current_setting('server_version_num')::int") < 180000 {
		end.Wants(t, "invalid_request")
	} else { // to this one it is a row, which has too few columns
		end.Wants(t, "sql_error")
	}
	harness.Equal(t, "rows before a marker at the end", w.upload("copy.import", "").all([]byte("7\ta\n\\.\n"), 3).Good(t).Text("rows"), "1")
	testenv.Exec(t, w.Postgres, "DELETE FROM item WHERE id = 7")
	w.intact()
}

// TestUploadsThatLookLikeTheirEnd sends what is a line \. only to who does not
// know the COPY's options or its encoding.
func TestUploadsThatLookLikeTheirEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		schema: `CREATE TABLE item (id text, "quote" text)`,
		scripts: map[string]string{
			"bar":   "COPY item FROM STDIN (FORMAT csv, QUOTE '|')",
			"given": "COPY item FROM STDIN (FORMAT csv, QUOTE @quote, ESCAPE @quote)",
			"old":   "COPY item FROM STDIN CSV QUOTE AS E'\\x7c' FORCE NOT NULL quote",
			"name":  `COPY item (id, "quote") FROM STDIN (FORMAT csv, FORCE_NULL (quote))`,
			"sjis":  "COPY item FROM STDIN (ENCODING 'shift_jis')",
			"gbk":   "COPY item FROM STDIN (FORMAT csv, ENCODING win936)",
		},
	})
	for _, c := range []struct{ script, body, data, rows string }{
		{"bar", "", "1,|\n\\.\n|\n2,b\n", "2"},
		{"given", `{"params": {"quote": "|"}}`, "1,|\n\\.\n|\n2,b\n", "2"},
		{"old", "", "1,|\n\\.\n|\n2,b\n", "2"},
		{"name", "", "1,\"\n\\.\n\"\n2,b\n", "2"},
		{"sjis", "", "1\t\x95\\.\n2\tb\n", "2"},
		{"gbk", "", "1,\"\x81\\.\n\x81\\\"\n2,b\n", "2"},
	} {
		u := w.upload("copy."+c.script, c.body)
		u.opening.Good(t)
		harness.Equal(t, "rows of "+c.script, u.until(c.data, 3).Good(t).Text("rows"), c.rows)
	}
	u := w.upload("copy.sjis", "") // PostgreSQL would take one row of three
	u.opening.Good(t)
	u.until("1\t\x95\\\\.\n2\tb\n3\tc\n", 3).Wants(t, "invalid_request")
	w.WantIdle()
}

func TestUploadOfLargeChunks(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", `{"chunk_bytes": 1000000000}`)
	u.opening.Good(t)
	header := len("NATS/1.0\r\n" + service.HeaderSeq + ": 1\r\n\r\n")
	row := "1\t" + strings.Repeat("x", int(w.Client.MaxPayload())-header-3) + "\n"
	u.send(row).Good(t)
	harness.Equal(t, "rows", u.send("").Good(t).Text("rows"), "1")
	// A row spans as many chunks as it likes.
	u = w.upload("copy.import", "")
	u.send("2\t").Good(t)
	for range 100 {
		u.send(strings.Repeat("y", 1000*1000)).Good(t)
	}
	harness.Equal(t, "rows", u.send("").Good(t).Text("rows"), "1")
	harness.Equal(t, "bytes of a row", testenv.Value[int64](t, w.Postgres, "SELECT length(name)::bigint FROM item WHERE id = 2"), 100*1000*1000)
	testenv.Exec(t, w.Postgres, "DELETE FROM item WHERE id > 0")
	w.intact()
}

func TestUploadByASilentClient(t *testing.T) {
	t.Parallel()
	w := importing(t, options{copier: func(c *copierConfig) { c.Stall = 3 * time.Second }})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).Good(t)
	w.WantIdle()
	u.send(string(lines(10, 20))).Wants(t, "timeout")
	u.send("").Wants(t, "gone")
	harness.Equal(t, "rows", w.rows("item"), 2)
}

func TestUploadIsRolledBack(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).Good(t)
	w.Ask(u.opening.Text("tx")+".rollback", "").Good(t)
	u.send("").Wants(t, "gone")
	u.send("").Wants(t, "gone")
	w.intact()
}

func TestUploadOutlivesItsTime(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", `{"timeout_ms": 2000}`)
	u.opening.Good(t)
	w.WantIdle()
	u.send("").Wants(t, "timeout")
	w.intact()
}

func TestUploadLosesPostgreSQL(t *testing.T) {
	t.Parallel()
	w := importing(t, options{runner: func(c *txrunner.Config) { c.ApplicationName = "victim" }})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).Good(t)
	testenv.TerminateBackend(t, w.Postgres, "victim%")
	r := u.send(string(lines(10, 20)))
	for r.Error == nil { // the connection may take some yet
		r = u.send(string(lines(10, 20)))
	}
	r.Wants(t, "unavailable")
	u.send("").Wants(t, "gone")
	w.intact()
}

func TestUploadOverAReconnect(t *testing.T) {
	t.Parallel()
	w := importing(t, options{copier: func(c *copierConfig) { c.Stall = 2 * time.Second }})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).Good(t)
	w.NATS.Stop(t)
	w.NATS.Start(t)
	testenv.Wait(t, harness.Patience, "the links to be back", func() bool { return w.Client.IsConnected() && w.requests.IsConnected() })
	w.WantIdle() // what was under way is lost, and nobody sends it again
	w.intact()
}

func TestUploadAtAStop(t *testing.T) {
	t.Parallel()
	w := importing(t, options{runner: func(c *txrunner.Config) { c.StopGrace = 300 * time.Millisecond }})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).Good(t)
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	w.WantIdle()
	harness.Equal(t, "rows", w.rows("item"), 2)
}

// TestUploadEndsWithinTheGrace goes on sending after the stop has begun.
func TestUploadEndsWithinTheGrace(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).Good(t)
	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }()
	testenv.Wait(t, harness.Patience, "new copies to be refused", func() bool {
		_, err := w.Client.Request("pgbridge.copy.import", nil, 50*time.Millisecond)
		return err == nats.ErrNoResponders
	})
	u.send(string(lines(10, 20))).Good(t)
	harness.Equal(t, "rows", u.send("").Good(t).Text("rows"), "20")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	harness.Equal(t, "rows", w.rows("item"), 22)
}

func TestTwoUploadsToOneTable(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	var ends [2]harness.Reply
	var both sync.WaitGroup
	for i := range ends {
		u := w.upload("copy.import", "")
		u.opening.Good(t)
		both.Go(func() { ends[i] = u.all(lines(1000*i, 1000*i+1000), 500) })
	}
	both.Wait()
	for i := range ends {
		harness.Equal(t, "rows", ends[i].Good(t).Text("rows"), "1000")
	}
	harness.Equal(t, "rows of both", w.rows("item"), 2002)
	// And with the same keys, of which only one can have them.
	for i := range ends {
		u := w.upload("copy.import", "")
		u.opening.Good(t)
		both.Go(func() { ends[i] = u.until(string(lines(5000, 6000)), 500) })
	}
	both.Wait()
	good := 0
	for i := range ends {
		if ends[i].Error == nil {
			good++
		} else {
			ends[i].Wants(t, "sql_error")
		}
	}
	harness.Equal(t, "uploads of the same rows that succeed", good, 1)
	harness.Equal(t, "rows", w.rows("item"), 3002)
	w.WantIdle()
}

func TestUploadInAPinnedTransaction(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	tx := w.Ask("begin", "").Good(t).Text("tx")
	u := w.upload(tx+".copy.import", `{"id": "one"}`)
	end := u.all(lines(0, 10), 20).Good(t)
	harness.Equal(t, "rows", end.Text("rows"), "10")
	harness.Equal(t, "state", end.Header.Get("Pgbridge-Transaction"), "active")
	harness.Equal(t, "rows before COMMIT", w.rows("item"), 2)
	u.send("").Wants(t, "gone")
	w.Ask(tx+".savepoint", `{"name": "s"}`).Good(t)

	u = w.upload(tx+".copy.import", `{"id": "two"}`)
	failed := u.until("x\n", 10).Wants(t, "sql_error")
	harness.Equal(t, "state", failed.Header.Get("Pgbridge-Transaction"), "failed")
	u.send("").Wants(t, "gone")
	w.Ask(tx+".rollback_to", `{"name": "s"}`).Good(t)

	u = w.upload(tx+".copy.import", `{"id": "two"}`) // the name is free again
	w.Ask(u.to, "", service.HeaderSeq, "5").Wants(t, "invalid_request")
	w.Ask(tx+".rollback_to", `{"name": "s"}`).Good(t)
	w.Ask(tx+".data.nothing", "").Wants(t, "gone")
	w.Ask(tx+".data", "")
	w.Ask(tx+".commit", "").Good(t)
	harness.Equal(t, "rows after COMMIT", w.rows("item"), 12)
	w.WantIdle()
}

func TestManyChunksAtOnce(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", "")
	in := w.Request(w.Client, "describe", "")
	in.Next()
	const n = 2000
	for i := range n + 1 {
		m := nats.NewMsg(u.to)
		m.Reply = in.Sub.Subject
		m.Header.Set(service.HeaderSeq, strconv.Itoa(i+1))
		if i < n {
			m.Data = lines(i, i+1)
		}
		if err := w.Client.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n + 1 {
		harness.Equal(t, "order of the answers", in.Next().Good(t).Header.Get(service.HeaderSeq), fmt.Sprint(i+1))
	}
	harness.Equal(t, "rows", w.rows("item"), n+2)
}

// TestRowsThatPostgreSQLSkips asks a PostgreSQL that can for the rows that it
// likes, and any other for the reason why not.
func TestRowsThatPostgreSQLSkips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: itemTable, scripts: map[string]string{
		"import": "-- bucket: files\nCOPY item FROM STDIN (FORMAT csv, ON_ERROR ignore, LOG_VERBOSITY verbose)",
	}})
	store, err := w.js.CreateObjectStore(limited(t), jetstream.ObjectStoreConfig{Bucket: "files"})
	if err != nil {
		t.Fatal(err)
	}
	data := "1,a\nx,b\n3,c\ny,d\n"
	u := w.upload("copy.import", "")
	if harness.Value[int](w.World, "SELECT current_setting('server_version_num')::int") < 170000 {
		u.opening.Wants(t, "sql_error")
		return
	}
	end := u.all([]byte(data), 5).Good(t)
	harness.Equal(t, "rows and rows skipped", end.Text("rows")+" "+end.Text("skipped"), "2 2")
	harness.Equal(t, "notices", len(end.Notices), 3)
	w.SQL("DELETE FROM item")
	if _, err := store.PutBytes(limited(t), "some", []byte(data)); err != nil {
		t.Fatal(err)
	}
	end = w.Works("copy.import", object("some"))
	harness.Equal(t, "rows and rows skipped", end.Text("rows")+" "+end.Text("skipped"), "2 2")
	none := w.upload("copy.import", "").all([]byte("5,e\n"), 5).Good(t)
	harness.Equal(t, "rows skipped of good ones", none.Text("skipped"), "<nil>")
}

// A parameter can stand in a COPY any number of times, and each becomes a literal.
func TestLiteralsTakeNoMoreMemoryThanThereIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{runner: func(c *txrunner.Config) { c.SQL, c.RequestBytes, c.Share = &txrunner.SQL{}, 16<<20, 1 }})
	ask := func(times int) harness.Reply {
		sql := "COPY (SELECT 0" + strings.Repeat("+length(@p)", times) + ") TO STDOUT"
		return w.Ask("copy", fmt.Sprintf(`{"sql": %q, "params": {"p": %q}}`, sql, strings.Repeat("x", 200_000)))
	}
	ask(200).Wants(t, "too_large")
	ask(2).Good(t)
}

// A request stays in memory as long as its copy goes on.
func TestRequestsOfCopiesCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{schema: itemTable, scripts: map[string]string{
		"count": "COPY (SELECT length(@p) + (SELECT count(*) FROM item)) TO STDOUT",
	}})
	conn, err := pgx.Connect(limited(t), w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(limited(t), "BEGIN; LOCK TABLE item"); err != nil {
		t.Fatal(err)
	}
	in := w.Request(w.Client, "copy.count", fmt.Sprintf(`{"params": {"p": %q}}`, strings.Repeat("x", 500_000)))
	in.Next().Good(t) // it has begun
	if used := w.runner.Snapshot().MemoryUsed; used < 1_500_000 {
		t.Errorf("%d bytes are counted, want those of the request, and of the COPY twice", used)
	}
	if _, err := conn.Exec(limited(t), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "the memory to be free", func() bool { return w.runner.Snapshot().MemoryUsed == 0 })
}
