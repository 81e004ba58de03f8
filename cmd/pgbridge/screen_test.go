package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// What is run again and again takes the place of what it showed before, until Ctrl-C.
func TestRunIsWatchedAtATerminal(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t)
	c := sit(t, nil, "run", "--server", s.bus.URL(), "account", "id=1", "--watch", "50ms")
	c.shows(t, console.Clear+"every 50ms", " 1 | Ada ", "1000.00", "(1 row)")
	testenv.Exec(t, s.url, "UPDATE account SET balance = 1234 WHERE id = 1")
	c.shows(t, "1234.00")
	shown := c.seen
	c.shows(t, console.Clear+"every 50ms", " 1 | Ada ", "1234.00")
	if again := c.stdout.String()[shown:c.seen]; strings.Contains(again, "1000.00") {
		t.Errorf("what was is shown beside what is: %q", again)
	}
	c.types(t, ctrlC)
	if code := c.code(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// Gaps are in colour for a person, unless that person wants none.
func TestSubAtATerminal(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	nc := bus.Connect(t)
	for _, tt := range []struct{ env, gap string }{
		{"LANG=C", "\x1b[30;43mpgbridge.gap.orders  {\"reason\": \"started\"}\x1b[0m\r\n"},
		{"NO_COLOR=1", "\npgbridge.gap.orders  {\"reason\": \"started\"}\r\n"},
		{"TERM=dumb", "\npgbridge.gap.orders  {\"reason\": \"started\"}\r\n"},
	} {
		c := sit(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, tt.env) }, "sub", "--server", bus.URL(), "--count", "2")
		c.shows(t, "subscribed to pgbridge.event.> pgbridge.gap.>")
		publish(t, nc, "pgbridge.event.orders", "\x1b[31mred", nil)
		publish(t, nc, "pgbridge.gap.orders", `{"reason": "started"}`, nil)
		c.shows(t, "pgbridge.event.orders  \\x1b[31mred\r", tt.gap)
		if code := c.code(t); code != exitOK {
			t.Errorf("%s: exit code %d", tt.env, code)
		}
	}
}

// A result of many pages is read with keys, and leaves nothing open.
func TestPagerAtATerminal(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "many", "SELECT 'row ' || g || '.' AS line FROM generate_series(1, 1000) g;")
	s.serve(t)
	for name, leave := range map[string]string{"q": "q", "Ctrl-C": ctrlC, "Ctrl-D": ctrlD} {
		c := sit(t, nil, "cursor", "--server", s.bus.URL(), "many")
		const keys = "space: next"
		c.shows(t, "row 1.", "row 21.", keys)
		c.types(t, " ")
		c.shows(t, "row 22.", keys)
		c.types(t, "b")
		c.shows(t, "row 1.", keys)
		c.types(t, "G")
		c.shows(t, "row 1000.", "(end) "+keys)
		c.types(t, "g")
		c.shows(t, "row 1.", keys)
		c.types(t, leave)
		if code := c.code(t); code != exitOK {
			t.Errorf("%s: exit code %d", name, code)
		}
		s.idle(t)
	}
}

// A copy between PostgreSQL and an object shows how far pgbridge says that it is,
// whoever takes it, and a job's copy is the same however often it is asked for.
func TestProgressOfObjectsAtATerminal(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	store := s.newLoad(t)
	if _, err := store.PutString(t.Context(), "rows", strings.Repeat("1\n", 300_000)); err != nil {
		t.Fatal(err)
	}
	s.write(t, "slow_out", "-- timeout: 1m\n-- bucket: imports\nCOPY (SELECT n, pg_advisory_xact_lock_shared(18 + n / 1000000) FROM generate_series(1, 1000000) n) TO STDOUT;")
	wantResult(t, call(t, nil, append([]string{"migrate", "--set", "jobs=true"}, s.args()...)...), exitOK, "", "")
	s.serve(t, "--set", "transactions.max_timeout=1m", "--set", "jobs=true")
	const loading, leaving = "LOCK load IN ACCESS EXCLUSIVE MODE", "SELECT pg_advisory_xact_lock(19)"
	for _, tt := range []struct{ name, block, unit, args string }{
		{"in", loading, " of 600.0 kB, ", "load --object imports/rows"},
		{"in, for a caller", loading, " of 600.0 kB, ", "load --object imports/rows --as al.ice"},
		{"as a job", loading, " of 600.0 kB, ", "load --object imports/rows --job"},
		{"as a job with an id", loading, " of 600.0 kB, ", "load --object imports/rows --job --id mine"},
		{"out", leaving, " MB, ", "slow_out --object imports/out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			release := s.blocked(t, tt.block)
			c := sit(t, nil, append([]string{"copy", "--server", s.bus.URL()}, strings.Fields(tt.args)...)...)
			c.shows(t, tt.unit)
			release()
			c.shows(t, "all rows were copied: ")
			if code := c.code(t); code != exitOK {
				t.Errorf("exit code %d", code)
			}
			c.wantBar(t, tt.unit)
		})
	}
	const again = "load --object imports/rows --job --id mine"
	wantResult(t, s.copy(t, "", strings.Fields(again)...), exitOK, "", "all rows were copied: 300000,")
	if got := testenv.Value[int64](t, s.url, "SELECT count(*) FROM load"); got != 4*300_000 {
		t.Errorf("%d rows were copied, want those of four", got)
	}
}

// A user who may not hear how far a copy is copies all the same.
func TestProgressThatNATSForbids(t *testing.T) {
	t.Parallel()
	s := newScripted(t, func(o *server.Options) {
		o.NoAuthUser = "all"
		o.Users = []*server.User{{Username: "all", Password: "p"}, {Username: "deaf", Password: "p", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Deny: []string{"pgbridge.progress.>"}},
		}}}
	})
	store := s.newLoad(t)
	if _, err := store.PutString(t.Context(), "rows", "1\n"); err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	release := s.blocked(t, "LOCK load IN ACCESS EXCLUSIVE MODE")
	c := sit(t, nil, "copy", "--server", s.bus.URL(), "--user", "deaf", "--password", "p", "load", "--object", "imports/rows")
	c.shows(t, "0 B, 0 B/s")
	release()
	c.shows(t, "all rows were copied: 1,")
	if code := c.code(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// newLoad makes a table, a script that copies into it, and the bucket that this may
// copy from.
func (s *scripted) newLoad(t *testing.T) jetstream.ObjectStore {
	t.Helper()
	testenv.Exec(t, s.url, "CREATE TABLE load (n int)")
	s.write(t, "load", "-- timeout: 1m\n-- bucket: imports\nCOPY load FROM STDIN;")
	js, err := jetstream.New(s.bus.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	store, err := js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "imports"})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
