package copier_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// storing is a world with a bucket and scripts that use it.
func storing(t *testing.T, o options) (*world, jetstream.ObjectStore) {
	t.Helper()
	o.schema += items + failAtCommit
	o.scripts = map[string]string{
		"export":  "-- bucket: files, none\nCOPY (SELECT * FROM item ORDER BY id) TO STDOUT",
		"move":    "-- bucket: files\n" + exportAndDelete,
		"late":    "-- bucket: files\nCOPY item TO STDOUT;\nINSERT INTO late VALUES (1)",
		"import":  "-- bucket: files, none\nCOPY item FROM STDIN;\nSELECT 7",
		"endless": "-- bucket: files\n" + endless,
		"waiting": "-- bucket: files\nCOPY item TO STDOUT;\nSELECT pg_advisory_xact_lock(1);\nINSERT INTO late VALUES (1)",
		"lock":    "SELECT pg_advisory_xact_lock(1)",
	}
	w := newWorld(t, o)
	store, err := w.js.CreateObjectStore(limited(t), jetstream.ObjectStoreConfig{Bucket: "files"})
	if err != nil {
		t.Fatal(err)
	}
	return w, store
}

func object(name string) string {
	return `{"id": "o1", "object": {"bucket": "files", "name": "` + name + `"}}`
}

// names are those of the objects there are.
func names(t *testing.T, store jetstream.ObjectStore) string {
	t.Helper()
	all, err := store.List(limited(t))
	if err != nil && err != jetstream.ErrNoObjectsFound {
		t.Fatal(err)
	}
	var names []string
	for _, info := range all {
		names = append(names, info.Name)
	}
	return strings.Join(names, " ")
}

func TestObjects(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	out := w.Ask("copy.move", object("a/orders 1.csv")).Good(t)
	data, err := store.GetBytes(limited(t), "a/orders 1.csv")
	if err != nil {
		t.Fatal(err)
	}
	harness.Equal(t, "the object", string(data), string(lines(1, 5001)))
	info, err := store.GetInfo(limited(t), "a/orders 1.csv")
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{"id": "o1", "rows": "5000", "digest": info.Digest} {
		harness.Equal(t, field, out.Text(field), want)
	}
	harness.Equal(t, "bytes", out.Text("bytes"), fmt.Sprint(float64(len(data))))
	harness.Equal(t, "state", out.Header.Get("Pgbridge-Transaction"), "ended")
	harness.Equal(t, "rows", w.rows("item"), 0)
	in := w.Ask("copy.import", object("a/orders 1.csv")).Good(t)
	for _, field := range []string{"rows", "bytes", "digest"} {
		harness.Equal(t, field, in.Text(field), out.Text(field))
	}
	if !strings.Contains(in.Body, `"rows":[[7]]`) {
		t.Errorf("reply %s, want the results", in.Body)
	}
	harness.Equal(t, "rows", w.rows("item"), 5000)
	w.WantIdle()
}

func TestEmptyAndLargeObjects(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	testenv.Exec(t, w.Postgres, "TRUNCATE item")
	harness.Equal(t, "rows of nothing", w.Ask("copy.export", object("empty")).Good(t).Text("rows"), "0")
	harness.Equal(t, "rows of nothing", w.Ask("copy.import", object("empty")).Good(t).Text("rows"), "0")
	data := lines(0, 500000)
	if _, err := store.Put(limited(t), jetstream.ObjectMeta{Name: "large", Opts: &jetstream.ObjectMetaOptions{ChunkSize: 10007}}, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	harness.Equal(t, "rows", w.Ask("copy.import", object("large")).Good(t).Text("rows"), "500000")
	harness.Equal(t, "bytes", w.Ask("copy.export", object("copy")).Good(t).Text("bytes"), fmt.Sprint(float64(len(data))))
	w.WantIdle()
}

func TestObjectsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	put := func(name, data string) {
		if _, err := store.PutString(limited(t), name, data); err != nil {
			t.Fatal(err)
		}
	}
	put("marker", "9998\ta\n\\.\n9999\tb\n")
	put("wrong", string(lines(6000, 7000))+"x\n")
	put("target", "9999\ta\n")
	put("cut", string(lines(10000, 60000)))
	target, err := store.GetInfo(limited(t), "target")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddLink(limited(t), "link", target); err != nil {
		t.Fatal(err)
	}
	// A message in the middle of an object is gone.
	stream, err := w.js.Stream(limited(t), "OBJ_files")
	if err != nil {
		t.Fatal(err)
	}
	cut, err := store.GetInfo(limited(t), "cut")
	if err != nil {
		t.Fatal(err)
	}
	last, err := stream.GetLastMsgForSubject(limited(t), "$O.files.C."+cut.NUID)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(limited(t), last.Sequence-1); err != nil {
		t.Fatal(err)
	}
	// All of another are.
	put("hollow", string(lines(60000, 60010)))
	hollow, err := store.GetInfo(limited(t), "hollow")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(limited(t), jetstream.WithPurgeSubject("$O.files.C."+hollow.NUID)); err != nil {
		t.Fatal(err)
	}
	for name, code := range map[string]string{
		"nothing": "not_found", "marker": "invalid_request", "wrong": "sql_error",
		"link": "invalid_request", "cut": "invalid_request", "hollow": "invalid_request",
	} {
		r := w.Ask("copy.import", object(name))
		if r.Error == nil || r.Error.Code != code {
			t.Errorf("%s: reply %s, want the error %s", name, r.Body, code)
		}
	}
	for _, script := range []string{"import", "export"} {
		w.Ask("copy."+script, `{"object": {"bucket": "none", "name": "x"}}`).Wants(t, "not_found")
	}
	w.Ask("copy.move", `{"object": {"bucket": "none", "name": "x"}}`).Wants(t, "denied")
	harness.Equal(t, "rows", w.rows("item"), 5000)
	w.WantIdle()
}

func TestExportThatFailsLeavesNoObject(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	w.Ask("copy.late", object("late")).Wants(t, "sql_error")
	w.Ask("copy.endless", `{"timeout_ms": 3000, "object": {"bucket": "files", "name": "endless"}}`).Wants(t, "timeout")
	harness.Equal(t, "objects", names(t, store), "")
	stream, err := w.js.Stream(limited(t), "OBJ_files")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "the pieces of objects to be gone", func() bool {
		info, err := stream.Info(limited(t), jetstream.WithSubjectFilter("$O.files.C.>"))
		return err == nil && len(info.State.Subjects) == 0
	})
	harness.Equal(t, "rows", w.rows("item"), 5000)
	harness.Equal(t, "rows of the other table", w.rows("late"), 0)
	w.WantIdle()
}

// TestExportThatFailsLeavesAnotherObject has one take the name before COMMIT.
func TestExportThatFailsLeavesAnotherObject(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	tx := w.Ask("begin", "").Good(t).Text("tx")
	w.Ask(tx+".run.lock", "").Good(t)
	in := w.Request(w.Client, "copy.waiting", object("a"))
	testenv.Wait(t, harness.Patience, "the object to be stored", func() bool { return names(t, store) == "a" })
	if _, err := store.PutString(limited(t), "a", "another"); err != nil {
		t.Fatal(err)
	}
	w.Ask(tx+".rollback", "").Good(t)
	in.Next().Wants(t, "unavailable")
	if data, err := store.GetString(limited(t), "a"); err != nil || data != "another" {
		t.Errorf("the object is %q, %v", data, err)
	}
	w.WantIdle()
}

func TestObjectWithMessageID(t *testing.T) {
	t.Parallel()
	w, _ := storing(t, options{})
	w.Migrate()
	w.Ask("copy.export", object("a")).Good(t)
	testenv.Exec(t, w.Postgres, "TRUNCATE item")
	first := w.Ask("copy.import", object("a"), nats.MsgIdHdr, "m1").Good(t)
	again := w.Ask("copy.import", object("a"), nats.MsgIdHdr, "m1").Good(t)
	harness.Equal(t, "reply to the second", again.Body, first.Body)
	harness.Equal(t, "replayed", again.Header.Get("Pgbridge-Replayed"), "true")
	w.Ask("copy.import", object("b"), nats.MsgIdHdr, "m1").Wants(t, "conflict")
	harness.Equal(t, "rows", w.rows("item"), 5000)
	w.WantIdle()
}

func TestObjectInAPinnedTransaction(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	tx := w.Ask("begin", "").Good(t).Text("tx")
	w.Ask(tx+".copy.move", object("a")).Good(t)
	harness.Equal(t, "objects", names(t, store), "a")
	w.Ask(tx+".savepoint", `{"name": "s"}`).Good(t)
	failed := w.Ask(tx+".copy.import", object("b")).Wants(t, "not_found")
	harness.Equal(t, "state", failed.Header.Get("Pgbridge-Transaction"), "active")
	in := w.Ask(tx+".copy.import", object("a")).Good(t)
	harness.Equal(t, "state", in.Header.Get("Pgbridge-Transaction"), "active")
	w.Ask(tx+".copy.import", object("a")).Wants(t, "sql_error")
	w.Ask(tx+".rollback_to", `{"name": "s"}`).Good(t)
	w.Ask(tx+".commit", "").Good(t)
	harness.Equal(t, "rows", w.rows("item"), 0)
	w.WantIdle()
}

func TestJobs(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	w.Migrate()
	jobs := &txrunner.Jobs{Stream: txrunner.JobStream{Create: true, Replicas: 1}, Results: txrunner.ResultStream{Create: true, Replicas: 1, MaxAge: time.Hour}}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w.serve(options{url: w.NATS.URL(), pgURL: w.Postgres, runner: func(c *txrunner.Config) { c.Jobs = jobs }})
	results, err := w.Client.SubscribeSync("pgbridge.result.>")
	if err != nil {
		t.Fatal(err)
	}
	do := func(script, id, body string) harness.Reply {
		t.Helper()
		if _, err := w.js.Publish(limited(t), "pgbridge.job.copy."+script, []byte(body), jetstream.WithMsgID(id)); err != nil {
			t.Fatal(err)
		}
		m, err := results.NextMsg(harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		harness.Equal(t, "subject of the result", m.Subject, "pgbridge.result."+script+"."+id)
		m.Reply = "" // JetStream's
		r, err := harness.Read(m)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	out := do("move", "j1", object("a")).Good(t)
	harness.Equal(t, "rows of the job", out.Text("rows"), "5000")
	harness.Equal(t, "objects", names(t, store), "a")
	harness.Equal(t, "rows", w.rows("item"), 0)
	harness.Equal(t, "rows of the job", do("import", "j2", object("a")).Good(t).Text("rows"), "5000")
	harness.Equal(t, "rows", w.rows("item"), 5000)
	do("import", "j3", "").Wants(t, "invalid_request")
	do("import", "j4", object("b")).Wants(t, "not_found")
	do("import", "j5", object("a")).Wants(t, "sql_error")
	do("import", "j6", `{"object": {"bucket": "other", "name": "a"}}`).Wants(t, "denied")
	if _, err := w.js.Publish(limited(t), "$O.files.M.YmFk", []byte("{")); err != nil {
		t.Fatal(err)
	}
	do("import", "j7", object("bad")).Wants(t, "invalid_request")
	// What the bucket does not take by its own limits ends the job: it would be done again
	// and again, for ever.
	bucket, err := w.js.Stream(limited(t), "OBJ_files")
	if err != nil {
		t.Fatal(err)
	}
	full := bucket.CachedInfo().Config
	for i, change := range []func(){
		func() { full.MaxBytes = int64(bucket.CachedInfo().State.Bytes) + 20_000 },
		func() { full.MaxBytes, full.MaxMsgSize = -1, 10_000 },
		func() { full.MaxMsgSize, full.Sealed = -1, true },
	} {
		change()
		if _, err := w.js.UpdateStream(limited(t), full); err != nil {
			t.Fatal(err)
		}
		do("export", fmt.Sprintf("full%d", i), object("more")).Wants(t, "too_large")
	}
	if n := w.logs.FilterMessage("taking no jobs").Len(); n > 0 {
		t.Error("a job has kept others from being taken")
	}
	w.WantIdle()
}

// childConfig is what a replica that is going to be killed is told.
type childConfig struct{ PG, NATS, Folder string }

func serveChild(ctx context.Context, config childConfig) error {
	nc, err := nats.Connect(config.NATS, nats.PermissionErrOnSubscribe(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	c, err := copier.New(copier.Config{Requests: nc})
	if err != nil {
		return err
	}
	runner, err := txrunner.New(txrunner.Config{
		ConnString: config.PG, Scripts: config.Folder, Requests: nc, Extensions: []txrunner.Extension{c.Extension()},
	})
	if err != nil {
		return err
	}
	return runner.Run(ctx)
}

func TestReplicaIsKilled(t *testing.T) {
	t.Parallel()
	w := importing(t, options{})
	w.Write("endless", endless)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	replica := testenv.Spawn(t, childConfig{w.Postgres, w.NATS.URL(), w.Folder})
	testenv.Wait(t, harness.Patience, "the replica to serve", func() bool {
		_, copies := w.Client.Request("pgbridge.copy.nothing", nil, time.Second)
		begun, err := w.Client.Request("pgbridge.begin", nil, time.Second)
		if err != nil || copies != nil {
			return false
		}
		var t struct{ Tx string }
		if json.Unmarshal(begun.Data, &t) != nil || t.Tx == "" {
			return false
		}
		_, err = w.Client.Request(t.Tx+".rollback", nil, time.Second) // its subject is the last to be there
		return err == nil
	})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).Good(t)
	in := w.Request(w.Client, "copy.endless", small)
	in.Next().Good(t)
	replica.Kill()
	testenv.Wait(t, harness.Patience, "chunks to find nobody", func() bool {
		_, err := w.Client.Request(u.to, nil, time.Second)
		return err == nats.ErrNoResponders
	})
	w.WantIdle()
	harness.Equal(t, "rows", w.rows("item"), 2)
}

// forge writes an object's metadata as who may write only that could.
func forge(t *testing.T, w *world, info *jetstream.ObjectInfo) {
	t.Helper()
	data, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg("$O.files.M." + base64.URLEncoding.EncodeToString([]byte(info.Name)))
	m.Header.Set("Nats-Rollup", "sub")
	m.Data = data
	if _, err := w.js.PublishMsg(limited(t), m); err != nil {
		t.Fatal(err)
	}
}

// TestForgedMetadata has an object's metadata name the chunks of all objects.
func TestForgedMetadata(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	if _, err := store.PutBytes(limited(t), "theirs", []byte("precious")); err != nil {
		t.Fatal(err)
	}
	w.Works("copy.export", object("other"))
	other, err := store.GetInfo(limited(t), "other")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := store.GetInfo(limited(t), "theirs")
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range []*jetstream.ObjectInfo{other, theirs} { // names that are real
		before, err := store.GetBytes(limited(t), info.Name)
		if err != nil {
			t.Fatal(err)
		}
		forge(t, w, &jetstream.ObjectInfo{ObjectMeta: jetstream.ObjectMeta{Name: "mine"}, Bucket: "files", NUID: info.NUID, Size: info.Size, Chunks: info.Chunks})
		w.Works("copy.export", object("mine"))
		if after, err := store.GetBytes(limited(t), info.Name); string(after) != string(before) {
			t.Fatalf("%s holds %q, want %q, %v", info.Name, after, before, err)
		}
	}
	for _, nuid := range []string{">", "*", "", "a.b"} {
		info := &jetstream.ObjectInfo{ObjectMeta: jetstream.ObjectMeta{Name: "mine"}, Bucket: "files", NUID: nuid, Size: 8, Chunks: 1}
		forge(t, w, info)
		w.Fails("invalid_request", "copy.import", object("mine"))
		w.Works("copy.export", object("mine"))
		forge(t, w, info)
		w.Fails("sql_error", "copy.late", object("mine")) // which takes its object back
		if data, err := store.GetBytes(limited(t), "theirs"); string(data) != "precious" {
			t.Fatalf("NUID %q: another object holds %q, %v", nuid, data, err)
		}
	}
}

// TestChunksThatVanishBeforeTheCommit has somebody purge them while the script
// goes on.
func TestChunksThatVanishBeforeTheCommit(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	w.SQL("DROP TRIGGER late ON late; INSERT INTO late VALUES (0)")
	conn, err := pgx.Connect(limited(t), w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(limited(t))
	if _, err := conn.Exec(limited(t), "SELECT pg_advisory_lock(1)"); err != nil {
		t.Fatal(err)
	}
	in := w.Request(w.Client, "copy.waiting", object("a"))
	var info *jetstream.ObjectInfo
	testenv.Wait(t, harness.Patience, "the object to be stored", func() bool {
		info, err = store.GetInfo(limited(t), "a")
		return err == nil
	})
	stream, err := w.js.Stream(limited(t), "OBJ_files")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(limited(t), jetstream.WithPurgeSubject("$O.files.C."+info.NUID)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(limited(t)); err != nil {
		t.Fatal(err)
	}
	in.Next().Wants(t, "unavailable")
	harness.Equal(t, "rows of the other table", w.rows("late"), 1)
	harness.Equal(t, "objects", names(t, store), "")
}

// What of an object JetStream has not confirmed is memory that requests take.
func TestObjectsInTheMakingCount(t *testing.T) {
	t.Parallel()
	w, _ := storing(t, options{})
	conn, err := pgx.Connect(limited(t), w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(limited(t), "BEGIN; LOCK TABLE item"); err != nil {
		t.Fatal(err)
	}
	in := w.Request(w.Client, "copy.export", object("a"))
	testenv.Wait(t, harness.Patience, "the copy to count", func() bool { return w.runner.Snapshot().MemoryUsed >= 4<<20 })
	if _, err := conn.Exec(limited(t), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	in.Next().Good(t)
}

// Headers of an object's chunks are not counted while they wait, so few may.
func TestFewChunksWait(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	if _, err := store.PutBytes(limited(t), "rows", lines(10_001, 10_011)); err != nil {
		t.Fatal(err)
	}
	pulls, err := w.Client.SubscribeSync("$JS.API.CONSUMER.MSG.NEXT.OBJ_files.>")
	if err != nil {
		t.Fatal(err)
	}
	w.Ask("copy.import", object("rows")).Good(t)
	m, err := pulls.NextMsgWithContext(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	var pull struct {
		Batch    int
		MaxBytes int `json:"max_bytes"`
	}
	if err := json.Unmarshal(m.Data, &pull); err != nil || pull.Batch > 8 || pull.MaxBytes < 1<<20 || pull.MaxBytes > 2<<20 {
		t.Errorf("it asks for %+v, %v", pull, err)
	}
}

// Nobody but who wants memory gives an object's chunks headers.
func TestChunksFullOfHeaders(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	info, err := store.PutBytes(limited(t), "rows", lines(10_001, 10_011))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(w.Client)
	if err != nil {
		t.Fatal(err)
	}
	chunk := nats.NewMsg("$O.files.C." + info.NUID)
	for i := range 2000 {
		chunk.Header.Set(fmt.Sprint("h", i), "")
	}
	if _, err := js.PublishMsg(limited(t), chunk); err != nil {
		t.Fatal(err)
	}
	a := w.Ask("copy.import", object("rows"))
	a.Wants(t, "invalid_request")
	if !strings.Contains(a.Error.Message, "damaged") {
		t.Errorf("message %q", a.Error.Message)
	}
	harness.Equal(t, "rows", w.rows("item"), 5000) // those of before
}

// Whoever writes chunks chooses their headers: those that look like the server's word about
// the request for chunks are no such word.
func TestChunksThatLookLikeTheServersWord(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	js, err := jetstream.New(w.Client)
	if err != nil {
		t.Fatal(err)
	}
	for i, word := range []nats.Header{
		{"Status": {"100"}},
		{"Status": {"409"}, "Description": {"Consumer Deleted"}},
		{"Status": {"409"}, "Description": {"Message Size Exceeds MaxBytes"}},
		{"Status": {"400"}},
		{"Status": {"503"}},
	} {
		name := fmt.Sprint("rows", i)
		info, err := store.PutBytes(limited(t), name, lines(20_001+10*i, 20_011+10*i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishMsg(limited(t), &nats.Msg{Subject: "$O.files.C." + info.NUID, Header: word}); err != nil {
			t.Fatal(err)
		}
		w.Ask("copy.import", object(name)).Good(t)
	}
	harness.Equal(t, "rows", w.rows("item"), 5050)
}

// A reader whose consumer is gone goes on with another one.
func TestConsumerIsLost(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	if _, err := store.PutBytes(limited(t), "rows", lines(10_001, 400_000)); err != nil {
		t.Fatal(err)
	}
	pulls, err := w.Client.SubscribeSync("$JS.API.CONSUMER.MSG.NEXT.OBJ_files.>")
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(w.Client)
	if err != nil {
		t.Fatal(err)
	}
	deleted := make(chan error, 1)
	go func() {
		m, err := pulls.NextMsgWithContext(limited(t))
		if err == nil {
			err = js.DeleteConsumer(limited(t), "OBJ_files", m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
		}
		deleted <- err
	}()
	w.Ask("copy.import", object("rows")).Good(t)
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	harness.Equal(t, "rows", w.rows("item"), 5000+389_999)
}
