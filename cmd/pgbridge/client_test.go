package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// TestClientsFindTheirServer by flags, and by contexts of the nats tool, with a
// user that may subscribe inboxes of its own only.
func TestClientsFindTheirServer(t *testing.T) {
	t.Parallel()
	s := newScripted(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "pgbridge", Password: "p"},
			{Username: "ada", Password: "secret", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: []string{"pgbridge.>"}},
				Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.ada.>"}},
			}},
		}
		o.NoAuthUser = "pgbridge"
	})
	s.serve(t)
	run := []string{"run", "transfer", "source=1", "target=2", "amount=1"}

	flags := []string{"--server", s.bus.URL(), "--user", "ada", "--password", "secret", "--inbox-prefix", "_INBOX.ada"}
	wantResult(t, call(t, nil, append(run, flags...)...), exitOK, "UPDATE 1", "")
	environ := []string{"PGBRIDGE_NATS_USER=ada", "PGBRIDGE_NATS_PASSWORD=secret", "PGBRIDGE_NATS_INBOX_PREFIX=_INBOX.ada", "PGBRIDGE_NATS_URL=" + s.bus.URL()}
	wantResult(t, call(t, environ, run...), exitOK, "UPDATE 1", "")
	wantResult(t, call(t, nil, append(run, "--server", s.bus.URL(), "--user", "ada")...), exitFailed, "", "Authorization Violation")
	wantResult(t, call(t, nil, append(run, "--inbox-prefix", "a.*")...), exitUsage, "", "--inbox-prefix: nats.inbox_prefix")

	folder := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(folder, "nats", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		rewrite(t, path, string(content))
		return path
	}
	content, err := json.Marshal(map[string]string{"url": s.bus.URL(), "user": "ada", "password": "secret", "inbox_prefix": "_INBOX.ada"})
	if err != nil {
		t.Fatal(err)
	}
	path := write("context/work.json", content)
	home := []string{"XDG_CONFIG_HOME=" + folder}
	wantResult(t, call(t, nil, append(run, "--context", path)...), exitOK, "UPDATE 1", "")
	wantResult(t, call(t, home, append(run, "--context", "work")...), exitOK, "UPDATE 1", "")
	wantResult(t, call(t, home, append(run, "--context", "home")...), exitFailed, "", "context home")
	// Flags override what the context says, and --server is the nats tool's -s.
	wrong, err := json.Marshal(map[string]string{"url": "nats://127.0.0.1:1", "user": "eve", "password": "wrong", "inbox_prefix": "_INBOX.eve"})
	if err != nil {
		t.Fatal(err)
	}
	write("context/wrong.json", wrong)
	wantResult(t, call(t, home, append(run, "--context", "wrong", "-s", s.bus.URL())...), exitFailed, "", "Authorization Violation")
	wantResult(t, call(t, home, append(run, append([]string{"--context", "wrong", "-s"}, flags[1:]...)...)...), exitOK, "UPDATE 1", "")
	wantResult(t, call(t, home, append(run, "--context", "work", "--tls-ca", "/nowhere")...), exitFailed, "", "/nowhere")
	// Every command that connects takes the same flags.
	for _, command := range []string{"serve", "check", "migrate"} {
		r := call(t, nil, command, "--postgres", "postgres:///x", "--creds", "a", "--nkey", "b", "--tlscert", "c")
		wantResult(t, r, exitUsage, "", "--nkey: nats.nkey: only one of creds, nkey can be used")
		wantResult(t, r, exitUsage, "", "--tlscert: nats.tls.cert: tls.cert and tls.key go together")
	}
	write("context.txt", []byte("work\n"))
	wantResult(t, call(t, home, run...), exitOK, "UPDATE 1", "")
	wantResult(t, call(t, home, append(run, "--server", "nats://127.0.0.1:1")...), exitFailed, "", "connect to NATS")
	wantResult(t, call(t, home, "copy", "export_orders", "customer:=null"), exitOK, "id,customer,total", "all rows were copied")
	if got := s.balances(t); !strings.HasPrefix(got, "994.00") {
		t.Errorf("balances %s", got)
	}
}

// TestJetStreamDomain reaches JetStream where it is.
func TestJetStreamDomain(t *testing.T) {
	t.Parallel()
	s := newScripted(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	check := func(more ...string) result {
		return call(t, nil, append([]string{"check", "--set", "channels.orders.delivery=jetstream"}, s.args(more...)...)...)
	}
	wantResult(t, check("--set", "nats.jetstream.domain=hub"), exitOK, "serve will create it", "")
	wantResult(t, check("--set", "nats.jetstream.api_prefix=$JS.hub.API"), exitOK, "serve will create it", "")
	wantResult(t, check("--set", "nats.jetstream.domain=elsewhere"), exitFailed, "FAIL  JetStream", "")
	wantResult(t, check("--set", "nats.jetstream.domain=a", "--set", "nats.jetstream.api_prefix=b"), exitUsage, "", "give one of them")
	s.serve(t, "--set", "nats.jetstream.domain=hub", "--set", "channels.orders.delivery=jetstream", "--set", "jobs=false")
	wantResult(t, check("--set", "nats.jetstream.domain=hub"), exitOK, "exists and holds every subject", "")
}
