package deploy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	gopgbridge "github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// counted returns the sum of what pgbridge has counted under a name and a label.
func (d deployment) counted(t *testing.T, name, label string) string {
	t.Helper()
	answer, err := http.Get(d.web + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, label) {
			return strings.TrimSpace(line[strings.LastIndex(line, " "):])
		}
	}
	return "0"
}

func (d deployment) dropped(t *testing.T, reason string) string {
	t.Helper()
	return d.counted(t, "pgbridge_requests_dropped_total", `part="txrunner",reason="`+reason+`"`)
}

// nobodyHasNATSAct has one who may do anything with JetStream send by its hands
// what it has: pgbridge runs none of it.
func nobodyHasNATSAct(t *testing.T, d deployment) {
	t.Helper()
	admin, _ := client(t, d.url, "admin")
	js, err := jetstream.New(admin)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "DEPUTY", Subjects: []string{"deputy"}, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: "deputy", Destination: "pgbridge.as.alice.run.transfer"},
	})
	if err != nil {
		t.Fatal(err)
	}
	before := total(t, d)
	if _, err := js.Publish(t.Context(), "deputy", []byte(transfer)); err != nil { // republished
		t.Fatal(err)
	}
	for _, api := range []struct{ subject, body string }{
		{"$JS.API.DIRECT.GET.DEPUTY", `{"seq": 99}`}, // an empty 404
		{"$JS.API.DIRECT.GET.DEPUTY.deputy", ``},     // the stored request
	} {
		if err := admin.PublishRequest(api.subject, "pgbridge.as.alice.run.transfer", []byte(api.body)); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Wait(t, patience, "three messages of NATS's to be dropped", func() bool { return d.dropped(t, "nats") == "3" })
	if err := admin.PublishRequest("$JS.API.STREAM.NAMES", "pgbridge.as.alice.run.transfer", nil); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, patience, "an answer of the API to be dropped", func() bool { return d.dropped(t, "no_reply") == "1" })
	if after := total(t, d); after != before {
		t.Errorf("%s transfers were counted before, %s after", before, after)
	}
	if err := js.DeleteStream(t.Context(), "DEPUTY"); err != nil {
		t.Fatal(err)
	}
}

// nobodyHasStreamsDeleted has NATS answer what clients send to streams, and acknowledge
// of them, where JetStream's API takes requests.
func nobodyHasStreamsDeleted(t *testing.T, d deployment) {
	t.Helper()
	const events, results = "PGBRIDGE_EVENTS", "PGBRIDGE_RESULTS"
	admin, _ := client(t, d.url, "admin")
	js, err := jetstream.New(admin)
	if err != nil {
		t.Fatal(err)
	}
	before := messages(t, js, events)
	for _, one := range []struct{ user, stream, delivered string }{
		{"reader", events, "_INBOX.reader.events"},
		{"clerk", results, "_INBOX.clerk.results"},
	} {
		nc, _ := client(t, d.url, one.user)
		stored, err := nc.SubscribeSync(one.delivered)
		if err != nil {
			t.Fatal(err)
		}
		if one.user == "clerk" {
			err = nc.PublishRequest("pgbridge.job.run.transfer", "$JS.API.STREAM.PURGE."+events, []byte(transfer))
		} else if err = nc.Flush(); err == nil {
			ask(t, admin, "pgbridge.notify.orders", "one more", "{}")
		}
		if err != nil {
			t.Fatal(err)
		}
		delivered, err := stored.NextMsg(patience)
		if err != nil {
			t.Fatalf("%s reads: %v", one.user, err)
		}
		if err := nc.PublishRequest(delivered.Reply, "$JS.API.STREAM.DELETE."+one.stream, nil); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil { // what it had NATS send comes before the admin's next request
			t.Fatal(err)
		}
	}
	if after := messages(t, js, events); after <= before {
		t.Errorf("the stream %s had %d messages before, and one more, and has %d", events, before, after)
	}
	messages(t, js, results)
}

// messages is how many a stream has, which has to be there.
func messages(t *testing.T, js jetstream.JetStream, name string) uint64 {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatalf("the stream %s: %v", name, err)
	}
	return s.CachedInfo().State.Msgs
}

// nobodyHasItCutOff has a client ask for chunks at a reply subject that is nearly as
// long as a line to nats-server may be. With the chunk's own it would be longer, and end
// the connection of everybody's transactions.
func nobodyHasItCutOff(t *testing.T, d deployment) {
	t.Helper()
	exporter, _ := client(t, d.url, "exporter")
	reply := "_INBOX.exporter." + strings.Repeat("x", 4000)
	if err := exporter.PublishRequest("pgbridge.copy.export_orders", reply, []byte(`{"params": {"customer": null}}`)); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, patience, "the request to be dropped", func() bool { return d.dropped(t, "reply_subject") == "1" })
}

// total returns how many requests of callers were answered, of whatever outcome.
func total(t *testing.T, d deployment) string {
	t.Helper()
	return d.counted(t, "pgbridge_requests_total", `endpoint="as"`)
}

// TestAccounts runs pgbridge in an account of its own, and has other accounts use
// and attack it.
func TestAccounts(t *testing.T) {
	t.Parallel()
	d := deploy(t, "nats-accounts.conf", `
  user: pgbridge
  password: change me`)
	d.run(t, "migrate", "-c", d.config, "--nats", d.url, "--set", "nats.user=admin", "--set", "postgres.url="+d.owner, "--set", "postgres.password_file=")
	d.run(t, "check", "-c", d.config)
	serve(t, d.program, d.config)
	awaitPublishing(t, d.web+"/readyz")

	till, _ := client(t, d.url, "till")
	ask(t, till, "pgbridge.run.transfer", transfer, `"results"`)
	shop, _ := client(t, d.url, "shop")
	ask(t, shop, "pgbridge.describe.transfer", "", `"parameters"`)
	shopUsesATransaction(t, shop)
	copyAcrossAccounts(t, shop)
	clientAcrossAccounts(t, shop)

	makeConsumers(t, d.url, "nats-accounts.conf")
	shopReadsTheStream(t, d, shop)
	shopAttacks(t, d, shop)
	lab, _ := client(t, d.url, "lab")
	for _, subject := range []string{"pgbridge.run.transfer", "pgbridge.as.SHOP.run.transfer", "pgbridge.tx.x.y.commit"} {
		if answer, err := lab.Request(subject, []byte(transfer), patience); err == nil {
			t.Errorf("an account that imports nothing is answered at %s: %s", subject, answer.Data)
		}
	}
}

func shopUsesATransaction(t *testing.T, shop *nats.Conn) {
	t.Helper()
	var begun struct{ Tx string }
	if err := json.Unmarshal(ask(t, shop, "pgbridge.begin", `{"isolation": "serializable"}`, `"tx"`).Data, &begun); err != nil {
		t.Fatal(err)
	}
	answer, err := shop.Request(begun.Tx+".run.transfer", []byte(transfer), patience)
	if err != nil || !strings.Contains(string(answer.Data), `"results"`) {
		t.Fatalf("run in a transaction: %v, %v", answer, err)
	}
	ask(t, shop, begun.Tx+".commit", "", "{}")
}

// shopReadsTheStream has a team acknowledge what it was delivered, where the answer
// comes back to it, and once more where the answer would delete the stream.
func shopReadsTheStream(t *testing.T, d deployment, shop *nats.Conn) {
	t.Helper()
	admin, _ := client(t, d.url, "admin")
	js, err := jetstream.New(admin)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := shop.SubscribeSync("pgbridge.stored.SHOP")
	if err != nil {
		t.Fatal(err)
	}
	event, err := stored.NextMsg(patience)
	if err != nil {
		t.Fatalf("read a stored event: %v", err)
	}
	if answer, err := shop.Request(event.Reply, []byte("+ACK"), patience); err != nil || len(answer.Data) > 0 {
		t.Errorf("acknowledge a stored event: %v, %v", answer, err)
	}
	if err := shop.PublishRequest(event.Reply, "$JS.API.STREAM.DELETE.PGBRIDGE_EVENTS", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := shop.Request(event.Reply, nil, patience); err != nil { // behind it
		t.Error(err)
	}
	messages(t, js, "PGBRIDGE_EVENTS")
}

func copyAcrossAccounts(t *testing.T, shop *nats.Conn) {
	t.Helper()
	inbox := shop.NewInbox()
	stream, err := shop.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := shop.PublishRequest("pgbridge.copy.export_orders", inbox, []byte(`{"params": {"customer": null}}`)); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := stream.NextMsg(patience)
		if err != nil {
			t.Fatalf("receive a copy: %v", err)
		}
		if msg.Header.Get("Nats-Service-Error") != "" {
			t.Fatalf("the copy ends with %s", msg.Data)
		}
		if msg.Header.Get("Pgbridge-Rows") != "" {
			return
		}
	}
}

// clientAcrossAccounts copies with the Go client, which acknowledges chunks: NATS has another
// subject for that than pgbridge has named, and what pgbridge has named is imported too.
func clientAcrossAccounts(t *testing.T, shop *nats.Conn) {
	t.Helper()
	c, err := gopgbridge.New(shop, gopgbridge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const rows = 200_000
	script := gopgbridge.Script{Name: "import_orders"}
	if _, err := c.CopyIn(t.Context(), script, strings.NewReader("customer,total\n"+strings.Repeat("across,1.50\n", rows)), gopgbridge.CopyOptions{}); err != nil {
		t.Fatalf("copy in: %v", err)
	}
	script = gopgbridge.Script{Name: "export_orders", Params: map[string]any{"customer": "across"}}
	if done, err := c.CopyOut(t.Context(), script, io.Discard, gopgbridge.CopyOptions{}); err != nil || done.Rows != rows {
		t.Errorf("copy out: %+v, %v", done, err)
	}
	cursor, err := c.Cursor(t.Context(), gopgbridge.Script{Name: "orders.search", Params: map[string]any{"customer": "across"}}, gopgbridge.CursorOptions{PageRows: 1})
	if err != nil {
		t.Fatalf("open a cursor: %v", err)
	}
	read := 0
	for _, err := range cursor.Stream(t.Context()) {
		if err != nil {
			t.Fatalf("read a cursor's stream: %v", err)
		}
		read++
	}
	if read < 2 {
		t.Errorf("the stream of a cursor has %d rows", read)
	}
}

// shopAttacks has a team do its worst with its own JetStream: it reaches nobody
// but itself.
func shopAttacks(t *testing.T, d deployment, shop *nats.Conn) {
	t.Helper()
	js, err := jetstream.New(shop)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "DEPUTY", Subjects: []string{"deputy"}, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: "deputy", Destination: "pgbridge.run.transfer"},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "THIEF", Subjects: []string{"pgbridge.as.>", "_R_.>"}, NoAck: true})
	if err != nil {
		t.Fatal(err)
	}
	before := total(t, d)
	if _, err := js.Publish(t.Context(), "deputy", []byte(transfer)); err != nil {
		t.Fatal(err)
	}
	if err := shop.PublishRequest("$JS.API.DIRECT.GET.DEPUTY", "pgbridge.run.transfer", []byte(`{"seq": 99}`)); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, patience, "two messages of NATS's to be dropped", func() bool { return d.dropped(t, "nats") == "2" })
	if after := total(t, d); after != before {
		t.Errorf("%s requests were answered before, %s after", before, after)
	}
	// A chunk has a reply subject: to a subject that is imported it comes back as a request.
	if err := shop.PublishRequest("pgbridge.copy.export_orders", "pgbridge.begin", []byte(`{"params": {"customer": "acme"}}`)); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, patience, "a chunk to be dropped", func() bool { return d.dropped(t, "nats") != "2" })
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "HOG", Subjects: []string{"hog"}, MaxBytes: 1 << 30})
	if err == nil {
		t.Error("one team may have as much of the storage as it likes")
	}
	thief, err := js.Stream(t.Context(), "THIEF")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := thief.Info(t.Context()); err != nil || info.State.Msgs != 0 {
		t.Errorf("a stream of another account has %d messages, %v", info.State.Msgs, err)
	}
	if err := js.DeleteStream(t.Context(), "THIEF"); err != nil { // or nobody says that nobody listens
		t.Fatal(err)
	}
	for _, subject := range []string{"pgbridge.as.alice.run.transfer", "pgbridge.as.SHOP.run.transfer", "pgbridge.run"} {
		if answer, err := shop.Request(subject, []byte(transfer), patience); err == nil {
			t.Errorf("another account is answered at %s: %s", subject, answer.Data)
		}
	}
}
