package examples_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// noteUser makes the PostgreSQL user of the example, and returns a URL that
// connects as it. Users are the whole server's, so it gets a name of its own.
func noteUser(t *testing.T, database string) string {
	t.Helper()
	name := "note_app_" + strings.ToLower(rand.Text()[:8])
	schema, err := os.ReadFile("rowsecurity/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, database, "CREATE ROLE "+name+" LOGIN PASSWORD 'secret'")
	testenv.Exec(t, database, strings.ReplaceAll(string(schema), "TO note_app", "TO "+name))
	t.Cleanup(func() { testenv.Exec(t, database, "DROP OWNED BY "+name+"; DROP ROLE "+name) })
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("user", name)
	query.Set("password", "secret")
	u.User, u.RawQuery = url.UserPassword(name, "secret"), query.Encode()
	return u.String()
}

// noteServers starts NATS with the example's users.
func noteServers(t *testing.T) *testenv.NATSServer {
	t.Helper()
	options, err := server.ProcessConfigFile("rowsecurity/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	return testenv.NATS(t, func(o *server.Options) { o.Users = options.Users })
}

func serveNotes(t *testing.T, bus *testenv.NATSServer, postgres string) {
	t.Helper()
	harness.Serve(t, txrunner.Config{
		ConnString: postgres, Scripts: "rowsecurity/scripts",
		Requests: bus.Connect(t, nats.UserInfo("pgbridge", "pgbridge"), nats.CustomInboxPrefix("_INBOX.pgbridge"), nats.PermissionErrOnSubscribe(true)),
	})
}

// noteRows asks as a user and returns the rows of the answer, or the error's SQLSTATE.
func noteRows(t *testing.T, nc *nats.Conn, subject, body string) string {
	t.Helper()
	msg, err := nc.Request(subject, []byte(body), harness.Patience)
	if err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Results []struct{ Rows json.RawMessage }
		Error   struct{ SQLState string }
	}
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		t.Fatalf("reply %q: %v", msg.Data, err)
	}
	if reply.Error.SQLState != "" {
		return reply.Error.SQLState
	}
	return string(reply.Results[0].Rows)
}

func TestRowSecurity(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t).NewDatabase(t)
	bus := noteServers(t)
	serveNotes(t, bus, noteUser(t, database))
	client := func(name string) *nats.Conn {
		return bus.Connect(t, nats.UserInfo(name, name), nats.CustomInboxPrefix("_INBOX."+name), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	}
	alice, bob := client("alice"), client("bob")
	for _, c := range []struct {
		nc                  *nats.Conn
		subject, body, want string
	}{
		{alice, "pgbridge.as.alice.run.add", `{"params": {"text": "by Alice"}}`, `[[1]]`},
		{bob, "pgbridge.as.bob.run.add", `{"params": {"text": "by Bob"}}`, `[[2]]`},
		{alice, "pgbridge.as.alice.run.list", ``, `[["alice","by Alice"]]`},
		{bob, "pgbridge.as.bob.run.list", ``, `[["bob","by Bob"]]`},
		{bob, "pgbridge.as.bob.run.give", `{"params": {"owner": "alice", "id": 2}}`, "42501"},
	} {
		if got := noteRows(t, c.nc, c.subject, c.body); got != c.want {
			t.Errorf("%s: %s, want %s", c.subject, got, c.want)
		}
	}
	for _, subject := range []string{"pgbridge.as.alice.run.list", "pgbridge.run.list"} {
		if _, err := bob.Request(subject, nil, time.Second); err == nil || !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("Bob publishes to %s: %v, want that he may not", subject, err)
		}
	}
	if got := testenv.Value[string](t, database, "SELECT string_agg(caller, ' ' ORDER BY note) FROM note_history"); got != "alice bob" {
		t.Errorf("the audit trail names %s, want alice bob", got)
	}
}
