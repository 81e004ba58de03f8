package copier_test

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

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
	w.t.Helper()
	w.clean()
	equal(w.t, "rows of the table", w.rows("item"), 2)
	end := w.upload("copy.upsert", "").all(lines(-2, 3), 7).good(w.t)
	equal(w.t, "rows of the next copy", end.text("rows"), "5")
	equal(w.t, "rows in the end", w.rows("item"), 5)
}

func TestUpload(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("as.alice.copy.upsert", `{"id": "u1", "window_bytes": 100000, "chunk_bytes": 5000, "stall_ms": 9000}`)
	tx := u.opening.good(t).text("tx")
	equal(t, "where chunks go", u.to, tx+".data.u1")
	for field, want := range map[string]string{"id": "u1", "chunk_bytes": "5000", "window_bytes": "100000", "stall_ms": "9000"} {
		equal(t, field, u.opening.text(field), want)
	}
	data := lines(-2, 5001)
	first := u.send(string(data[:10])).good(t)
	equal(t, "number of the answer", first.header.Get("Pgbridge-Seq"), "1")
	equal(t, "bytes of the answer", len(first.body), 0)
	equal(t, "state", first.header.Get("Pgbridge-Transaction"), "active")
	u.send(string(data[10:])).good(t)
	hash := sha256.New()
	hash.Write(data)
	digest := service.FormatDigest(hash)
	end := u.send("", service.HeaderDigest, strings.TrimRight(digest, "=")).good(t)
	equal(t, "number of the last answer", end.header.Get("Pgbridge-Seq"), "3")
	equal(t, "state", end.header.Get("Pgbridge-Transaction"), "ended")
	for field, want := range map[string]string{"id": "u1", "rows": "5003", "bytes": strconv.Itoa(len(data)), "digest": digest} {
		equal(t, field, end.text(field), want)
	}
	if results := string(end.body); !strings.Contains(results, `"results":[{"command":"CREATE TABLE","rows_affected":0},{"command":"INSERT 0 5003","rows_affected":5003}]`) {
		t.Errorf("reply %s", results)
	}
	equal(t, "rows", w.rows("item"), 5003)
	u.send("more").wants(t, service.CodeGone)
	w.clean()
}

func TestUploadFormats(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	equal(t, "rows of CSV", w.upload("copy.csv", "").all([]byte("1,\"a\nb\"\n2,\n"), 3).good(t).text("rows"), "2")
	equal(t, "rows of Latin 1", w.upload("copy.latin", "").all([]byte("3\tf\xfcr\n"), 1).good(t).text("rows"), "1")
	equal(t, "text", testenv.Value[string](t, w.pg, "SELECT name FROM item WHERE id = 3"), "für")
	params := w.upload("copy.params", `{"params": {"null": "it's \\N", "least": 5}}`)
	equal(t, "rows with parameters", params.all([]byte("6,it's \\N\n4,x\n"), 100).good(t).text("rows"), "1")
	equal(t, "NULL", testenv.Value[bool](t, w.pg, "SELECT name IS NULL FROM item WHERE id = 6"), true)
	binary := w.download("copy.export", "").data
	testenv.Exec(t, w.pg, "DELETE FROM item")
	equal(t, "rows of the binary format", w.upload("copy.binary", "").all(binary, 10).good(t).text("rows"), "6")
	equal(t, "rows of nothing", w.upload("copy.import", "").send("").good(t).text("rows"), "0")
	end := w.upload("copy.before", "").all([]byte("9\tz"), 100).good(t) // the last line needs no end
	equal(t, "rows", end.text("rows"), "1")
	if !strings.Contains(string(end.body), `"rows":[[1]]`) {
		t.Errorf("reply %s, want the results of statements before and after", end.body)
	}
	w.clean()
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
			u.opening.good(t)
			failure := u.until(tt.data, 5000).wants(t, service.CodeSQLError).failure
			if failure.SQLState != tt.state || !strings.Contains(failure.Where, tt.where) {
				t.Errorf("%s, %q, want %s, %q", failure.SQLState, failure.Where, tt.state, tt.where)
			}
			u.send("x").wants(t, service.CodeGone)
			equal(t, "rows of the other table", w.rows("late"), 0)
			w.intact()
		})
	}
}

// until sends data and the end until there is an error, which it returns.
func (u *upload) until(data string, size int) reply {
	u.w.t.Helper()
	for data != "" {
		n := min(size, len(data))
		if r := u.send(data[:n]); r.failure != nil {
			return r
		}
		data = data[n:]
	}
	return u.send("")
}

func TestUploadThatCannotBegin(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	failure := w.ask("copy.wrong", "").wants(t, service.CodeSQLError).failure
	if failure.Statement != 2 || failure.SQLState != "42P01" {
		t.Errorf("the error says statement %d, %s", failure.Statement, failure.SQLState)
	}
	w.ask("copy.import", "", nats.MsgIdHdr, "m1").wants(t, service.CodeInvalidRequest)
	if err := w.client.Publish("pgbridge.copy.import", nil); err != nil { // nobody would know where to
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
			u.opening.good(t)
			for i, number := range numbers {
				r := w.ask(u.to, string(lines(i, i+1)), service.HeaderSeq, number)
				if i < len(numbers)-1 {
					r.good(t)
				} else {
					r.wants(t, service.CodeInvalidRequest)
				}
			}
			w.ask(u.to, "", service.HeaderSeq, "2").wants(t, service.CodeGone)
			w.intact()
		})
	}
}

func TestUploadOverrunsTheWindow(t *testing.T) {
	t.Parallel()
	w := importing(t, options{schema: `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN PERFORM pg_advisory_xact_lock(1); RETURN new; END$$;`})
	testenv.Exec(t, w.pg, "CREATE TRIGGER wait BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION wait()")
	conn, err := pgx.Connect(limited(t), w.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(limited(t))
	if _, err := conn.Exec(limited(t), "SELECT pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}
	u := w.upload("copy.import", `{"window_bytes": 1000000}`)
	u.opening.good(t)
	in := w.request(w.client, "describe", "")
	in.next()
	data := lines(1, 40000)
	for i := range 40 { // more than the buffers on the way to PostgreSQL hold
		m := nats.NewMsg(u.to)
		m.Reply, m.Data = in.sub.Subject, data
		m.Header.Set(service.HeaderSeq, strconv.Itoa(i+1))
		if err := w.client.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	for in.last.failure == nil {
		in.next()
	}
	in.last.wants(t, service.CodeInvalidRequest)
	if err := conn.Close(limited(t)); err != nil {
		t.Fatal(err)
	}
	w.intact()
}

func TestUploadWithTheWrongDigest(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).good(t)
	u.send("", service.HeaderDigest, "SHA-256=AAAA").wants(t, service.CodeInvalidRequest)
	w.intact()
}

func TestUploadGoesOnAfterTheEndMarker(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	for _, script := range []string{"import", "csv"} {
		u := w.upload("copy."+script, "")
		u.opening.good(t)
		u.until("\\.\n1\ta\n", 3).wants(t, service.CodeInvalidRequest)
	}
	equal(t, "rows before a marker at the end", w.upload("copy.import", "").all([]byte("7\ta\n\\.\n"), 3).good(t).text("rows"), "1")
	testenv.Exec(t, w.pg, "DELETE FROM item WHERE id = 7")
	w.intact()
}

func TestUploadOfLargeChunks(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", `{"chunk_bytes": 1000000000}`)
	u.opening.good(t)
	header := len("NATS/1.0\r\n" + service.HeaderSeq + ": 1\r\n\r\n")
	row := "1\t" + strings.Repeat("x", int(w.client.MaxPayload())-header-3) + "\n"
	u.send(row).good(t)
	equal(t, "rows", u.send("").good(t).text("rows"), "1")
	// A row spans as many chunks as it likes.
	u = w.upload("copy.import", "")
	u.send("2\t").good(t)
	for range 100 {
		u.send(strings.Repeat("y", 1000*1000)).good(t)
	}
	equal(t, "rows", u.send("").good(t).text("rows"), "1")
	equal(t, "bytes of a row", testenv.Value[int64](t, w.pg, "SELECT length(name)::bigint FROM item WHERE id = 2"), 100*1000*1000)
	testenv.Exec(t, w.pg, "DELETE FROM item WHERE id > 0")
	w.intact()
}

func TestUploadByASilentClient(t *testing.T) {
	t.Parallel()
	w := importing(t, options{copier: func(c *copierConfig) { c.Stall = 300 * time.Millisecond }})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).good(t)
	w.clean()
	u.send(string(lines(10, 20))).wants(t, service.CodeTimeout)
	u.send("").wants(t, service.CodeGone)
	equal(t, "rows", w.rows("item"), 2)
}

func TestUploadIsRolledBack(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).good(t)
	w.ask(u.opening.text("tx")+".rollback", "").good(t)
	u.send("").wants(t, service.CodeGone)
	u.send("").wants(t, service.CodeGone)
	w.intact()
}

func TestUploadOutlivesItsTime(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", `{"timeout_ms": 300}`)
	u.opening.good(t)
	w.clean()
	u.send("").wants(t, service.CodeTimeout)
	w.intact()
}

func TestUploadLosesPostgreSQL(t *testing.T) {
	t.Parallel()
	w := importing(t, options{runner: func(c *txrunner.Config) { c.ApplicationName = "victim" }})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).good(t)
	testenv.TerminateBackend(t, w.pg, "victim%")
	r := u.send(string(lines(10, 20)))
	for r.failure == nil { // the connection may take some yet
		r = u.send(string(lines(10, 20)))
	}
	r.wants(t, service.CodeUnavailable)
	u.send("").wants(t, service.CodeGone)
	w.intact()
}

func TestUploadOverAReconnect(t *testing.T) {
	t.Parallel()
	w := importing(t, options{copier: func(c *copierConfig) { c.Stall = 2 * time.Second }})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).good(t)
	w.nats.Stop(t)
	w.nats.Start(t)
	testenv.Wait(t, patience, "the links to be back", func() bool { return w.client.IsConnected() && w.requests.IsConnected() })
	w.clean() // what was under way is lost, and nobody sends it again
	w.intact()
}

func TestUploadAtAStop(t *testing.T) {
	t.Parallel()
	w := importing(t, options{runner: func(c *txrunner.Config) { c.StopGrace = 300 * time.Millisecond }})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).good(t)
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	w.clean()
	equal(t, "rows", w.rows("item"), 2)
}

// TestUploadEndsWithinTheGrace goes on sending after the stop has begun.
func TestUploadEndsWithinTheGrace(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).good(t)
	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }()
	testenv.Wait(t, patience, "new copies to be refused", func() bool {
		_, err := w.client.Request("pgbridge.copy.import", nil, 50*time.Millisecond)
		return err == nats.ErrNoResponders
	})
	u.send(string(lines(10, 20))).good(t)
	equal(t, "rows", u.send("").good(t).text("rows"), "20")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	equal(t, "rows", w.rows("item"), 22)
}

func TestTwoUploadsToOneTable(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	var ends [2]reply
	var both sync.WaitGroup
	for i := range ends {
		u := w.upload("copy.import", "")
		u.opening.good(t)
		both.Go(func() { ends[i] = u.all(lines(1000*i, 1000*i+1000), 500) })
	}
	both.Wait()
	for i := range ends {
		equal(t, "rows", ends[i].good(t).text("rows"), "1000")
	}
	equal(t, "rows of both", w.rows("item"), 2002)
	// And with the same keys, of which only one can have them.
	for i := range ends {
		u := w.upload("copy.import", "")
		u.opening.good(t)
		both.Go(func() { ends[i] = u.until(string(lines(5000, 6000)), 500) })
	}
	both.Wait()
	good := 0
	for i := range ends {
		if ends[i].failure == nil {
			good++
		} else {
			ends[i].wants(t, service.CodeSQLError)
		}
	}
	equal(t, "uploads of the same rows that succeed", good, 1)
	equal(t, "rows", w.rows("item"), 3002)
	w.clean()
}

func TestUploadInAPinnedTransaction(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	tx := w.ask("begin", "").good(t).text("tx")
	u := w.upload(tx+".copy.import", `{"id": "one"}`)
	end := u.all(lines(0, 10), 20).good(t)
	equal(t, "rows", end.text("rows"), "10")
	equal(t, "state", end.header.Get("Pgbridge-Transaction"), "active")
	equal(t, "rows before COMMIT", w.rows("item"), 2)
	u.send("").wants(t, service.CodeGone)
	w.ask(tx+".savepoint", `{"name": "s"}`).good(t)

	u = w.upload(tx+".copy.import", `{"id": "two"}`)
	failed := u.until("x\n", 10).wants(t, service.CodeSQLError)
	equal(t, "state", failed.header.Get("Pgbridge-Transaction"), "failed")
	u.send("").wants(t, service.CodeGone)
	w.ask(tx+".rollback_to", `{"name": "s"}`).good(t)

	u = w.upload(tx+".copy.import", `{"id": "two"}`) // the name is free again
	w.ask(u.to, "", service.HeaderSeq, "5").wants(t, service.CodeInvalidRequest)
	w.ask(tx+".rollback_to", `{"name": "s"}`).good(t)
	w.ask(tx+".data.nothing", "").wants(t, service.CodeGone)
	w.ask(tx+".data", "")
	w.ask(tx+".commit", "").good(t)
	equal(t, "rows after COMMIT", w.rows("item"), 12)
	w.clean()
}

func TestManyChunksAtOnce(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	u := w.upload("copy.import", "")
	in := w.request(w.client, "describe", "")
	in.next()
	const n = 2000
	for i := range n + 1 {
		m := nats.NewMsg(u.to)
		m.Reply = in.sub.Subject
		m.Header.Set(service.HeaderSeq, strconv.Itoa(i+1))
		if i < n {
			m.Data = lines(i, i+1)
		}
		if err := w.client.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n + 1 {
		equal(t, "order of the answers", in.next().good(t).header.Get(service.HeaderSeq), fmt.Sprint(i+1))
	}
	equal(t, "rows", w.rows("item"), n+2)
}
