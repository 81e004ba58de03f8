package copier_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/internal/service"
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
	out := w.ask("copy.move", object("a/orders 1.csv")).good(t)
	data, err := store.GetBytes(limited(t), "a/orders 1.csv")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the object", string(data), string(lines(1, 5001)))
	info, err := store.GetInfo(limited(t), "a/orders 1.csv")
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{"id": "o1", "rows": "5000", "digest": info.Digest} {
		equal(t, field, out.text(field), want)
	}
	equal(t, "bytes", out.fields["bytes"], any(float64(len(data))))
	equal(t, "state", out.header.Get("Pgbridge-Transaction"), "ended")
	equal(t, "rows", w.rows("item"), 0)
	in := w.ask("copy.import", object("a/orders 1.csv")).good(t)
	for _, field := range []string{"rows", "bytes", "digest"} {
		equal(t, field, in.text(field), out.text(field))
	}
	if !strings.Contains(string(in.body), `"rows":[[7]]`) {
		t.Errorf("reply %s, want the results", in.body)
	}
	equal(t, "rows", w.rows("item"), 5000)
	w.clean()
}

func TestEmptyAndLargeObjects(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	testenv.Exec(t, w.pg, "TRUNCATE item")
	equal(t, "rows of nothing", w.ask("copy.export", object("empty")).good(t).text("rows"), "0")
	equal(t, "rows of nothing", w.ask("copy.import", object("empty")).good(t).text("rows"), "0")
	data := lines(0, 500000)
	if _, err := store.Put(limited(t), jetstream.ObjectMeta{Name: "large", Opts: &jetstream.ObjectMetaOptions{ChunkSize: 10007}}, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", w.ask("copy.import", object("large")).good(t).text("rows"), "500000")
	equal(t, "bytes", w.ask("copy.export", object("copy")).good(t).fields["bytes"], any(float64(len(data))))
	w.clean()
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
	for name, code := range map[string]service.Code{
		"nothing": service.CodeNotFound, "marker": service.CodeInvalidRequest, "wrong": service.CodeSQLError,
		"link": service.CodeInvalidRequest, "cut": service.CodeInvalidRequest, "hollow": service.CodeInvalidRequest,
	} {
		r := w.ask("copy.import", object(name))
		if r.failure == nil || r.failure.Code != code {
			t.Errorf("%s: reply %s, want the error %s", name, r.body, code)
		}
	}
	for _, script := range []string{"import", "export"} {
		w.ask("copy."+script, `{"object": {"bucket": "none", "name": "x"}}`).wants(t, service.CodeNotFound)
	}
	w.ask("copy.move", `{"object": {"bucket": "none", "name": "x"}}`).wants(t, service.CodeDenied)
	equal(t, "rows", w.rows("item"), 5000)
	w.clean()
}

func TestExportThatFailsLeavesNoObject(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	w.ask("copy.late", object("late")).wants(t, service.CodeSQLError)
	w.ask("copy.endless", `{"timeout_ms": 300, "object": {"bucket": "files", "name": "endless"}}`).wants(t, service.CodeTimeout)
	equal(t, "objects", names(t, store), "")
	stream, err := w.js.Stream(limited(t), "OBJ_files")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, patience, "the pieces of objects to be gone", func() bool {
		info, err := stream.Info(limited(t), jetstream.WithSubjectFilter("$O.files.C.>"))
		return err == nil && len(info.State.Subjects) == 0
	})
	equal(t, "rows", w.rows("item"), 5000)
	equal(t, "rows of the other table", w.rows("late"), 0)
	w.clean()
}

// TestExportThatFailsLeavesAnotherObject has one take the name before COMMIT.
func TestExportThatFailsLeavesAnotherObject(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	tx := w.ask("begin", "").good(t).text("tx")
	w.ask(tx+".run.lock", "").good(t)
	in := w.request(w.client, "copy.waiting", object("a"))
	testenv.Wait(t, patience, "the object to be stored", func() bool { return names(t, store) == "a" })
	if _, err := store.PutString(limited(t), "a", "another"); err != nil {
		t.Fatal(err)
	}
	w.ask(tx+".rollback", "").good(t)
	in.next().wants(t, service.CodeSQLError)
	if data, err := store.GetString(limited(t), "a"); err != nil || data != "another" {
		t.Errorf("the object is %q, %v", data, err)
	}
	w.clean()
}

func TestObjectWithMessageID(t *testing.T) {
	t.Parallel()
	w, _ := storing(t, options{})
	w.migrate()
	w.ask("copy.export", object("a")).good(t)
	testenv.Exec(t, w.pg, "TRUNCATE item")
	first := w.ask("copy.import", object("a"), nats.MsgIdHdr, "m1").good(t)
	again := w.ask("copy.import", object("a"), nats.MsgIdHdr, "m1").good(t)
	equal(t, "reply to the second", string(again.body), string(first.body))
	equal(t, "replayed", again.header.Get("Pgbridge-Replayed"), "true")
	w.ask("copy.import", object("b"), nats.MsgIdHdr, "m1").wants(t, service.CodeConflict)
	equal(t, "rows", w.rows("item"), 5000)
	w.clean()
}

func (w *world) migrate() {
	w.t.Helper()
	conn, err := pgx.Connect(limited(w.t), w.pg)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(limited(w.t))
	if err := txrunner.Migrate(limited(w.t), conn); err != nil {
		w.t.Fatal(err)
	}
}

func TestObjectInAPinnedTransaction(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	tx := w.ask("begin", "").good(t).text("tx")
	w.ask(tx+".copy.move", object("a")).good(t)
	equal(t, "objects", names(t, store), "a")
	w.ask(tx+".savepoint", `{"name": "s"}`).good(t)
	failed := w.ask(tx+".copy.import", object("b")).wants(t, service.CodeNotFound)
	equal(t, "state", failed.header.Get("Pgbridge-Transaction"), "active")
	in := w.ask(tx+".copy.import", object("a")).good(t)
	equal(t, "state", in.header.Get("Pgbridge-Transaction"), "active")
	w.ask(tx+".copy.import", object("a")).wants(t, service.CodeSQLError)
	w.ask(tx+".rollback_to", `{"name": "s"}`).good(t)
	w.ask(tx+".commit", "").good(t)
	equal(t, "rows", w.rows("item"), 0)
	w.clean()
}

func TestJobs(t *testing.T) {
	t.Parallel()
	w, store := storing(t, options{})
	w.migrate()
	jobs := &txrunner.Jobs{Stream: txrunner.JobStream{Create: true, Replicas: 1}, Results: txrunner.ResultStream{Create: true, Replicas: 1, MaxAge: time.Hour}}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	w.serve(options{url: w.nats.URL(), pgURL: w.pg, runner: func(c *txrunner.Config) { c.Jobs = jobs }})
	results, err := w.client.SubscribeSync("pgbridge.result.>")
	if err != nil {
		t.Fatal(err)
	}
	do := func(script, id, body string) reply {
		t.Helper()
		if _, err := w.js.Publish(limited(t), "pgbridge.job.copy."+script, []byte(body), jetstream.WithMsgID(id)); err != nil {
			t.Fatal(err)
		}
		m, err := results.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "subject of the result", m.Subject, "pgbridge.result."+script+"."+id)
		m.Reply = "" // JetStream's
		return readReply(t, m)
	}
	out := do("move", "j1", object("a")).good(t)
	equal(t, "rows of the job", out.text("rows"), "5000")
	equal(t, "objects", names(t, store), "a")
	equal(t, "rows", w.rows("item"), 0)
	equal(t, "rows of the job", do("import", "j2", object("a")).good(t).text("rows"), "5000")
	equal(t, "rows", w.rows("item"), 5000)
	do("import", "j3", "").wants(t, service.CodeInvalidRequest)
	do("import", "j4", object("b")).wants(t, service.CodeNotFound)
	do("import", "j5", object("a")).wants(t, service.CodeSQLError)
	w.clean()
}

// childEnv makes a test binary a replica that is going to be killed.
const childEnv = "PGBRIDGE_TEST_COPIER"

type childConfig struct{ PG, NATS, Folder string }

func serveChild(ctx context.Context) error {
	var config childConfig
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &config); err != nil {
		return err
	}
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
	w.write("endless", endless)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(childConfig{w.pg, w.nats.URL(), w.folder})
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	replica := exec.Command(program)
	replica.Env, replica.Stderr = append(os.Environ(), childEnv+"="+string(config)), os.Stderr
	stdin, err := replica.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := replica.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = io.WriteString(stdin, ""); _ = stdin.Close() }()
	testenv.Wait(t, patience, "the replica to serve", func() bool {
		_, copies := w.client.Request("pgbridge.copy.nothing", nil, time.Second)
		begun, err := w.client.Request("pgbridge.begin", nil, time.Second)
		if err != nil || copies != nil {
			return false
		}
		var t struct{ Tx string }
		if json.Unmarshal(begun.Data, &t) != nil || t.Tx == "" {
			return false
		}
		_, err = w.client.Request(t.Tx+".rollback", nil, time.Second) // its subject is the last to be there
		return err == nil
	})
	u := w.upload("copy.import", "")
	u.send(string(lines(0, 10))).good(t)
	in := w.request(w.client, "copy.endless", small)
	in.next().good(t)
	if err := replica.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = replica.Wait() // it was killed
	testenv.Wait(t, patience, "chunks to find nobody", func() bool {
		_, err := w.client.Request(u.to, nil, time.Second)
		return err == nats.ErrNoResponders
	})
	w.clean()
	equal(t, "rows", w.rows("item"), 2)
}
