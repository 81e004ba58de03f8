package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

const timeLimit = 20 * time.Second

func TestDev(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	if err := os.Chmod(temp, 0o777); err != nil { // PostgreSQL runs as another user
		t.Fatal(err)
	}
	c := startIn(t, temp, "dev")
	says(t, &c.stdout, "pgbridge.event.orders")
	address := regexp.MustCompile(`http://(127\.0\.0\.1:[0-9]+)/`).FindStringSubmatch(c.stderr.String())
	if address == nil {
		t.Fatalf("no address of the console in %s", &c.stderr)
	}
	if code, body := get(t, address[1], "/console/api/view?view=channels"); code != 200 || !strings.Contains(body, `"billing"`) {
		t.Errorf("the console: %d %s", code, body)
	}
	showsVisitors(t, address[1])
	login := regexp.MustCompile(`PGPASSWORD=(\S+) \S+ "?postgres://postgres@([^"' ]+)`).FindStringSubmatch(c.stderr.String())
	if login == nil {
		t.Fatalf("no line that notifies in %s", &c.stderr)
	}
	url := "postgres://postgres:" + login[1] + "@" + login[2]
	testenv.Exec(t, url, "NOTIFY orders, 'from outside'")
	says(t, &c.stdout, "pgbridge.event.orders  from outside\n")
	says(t, &c.stdout, "pgbridge.event.billing  Pgbridge-Id=")
	testenv.Exec(t, url, "SELECT pgbridge.notify('billing', 'durably')")
	says(t, &c.stdout, "  durably\n")

	line := regexp.MustCompile(`(?m)^    (PGPASSWORD=\S+ psql .*)$`).FindStringSubmatch(c.stderr.String())
	if line != nil { // as a person would paste it
		if out, err := exec.Command("sh", "-c", line[1]).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line[1], err, out)
		}
		says(t, &c.stdout, "pgbridge.event.orders  hello\n")
	}
	client := regexp.MustCompile(`sub --nats (\S+)`).FindStringSubmatch(c.stderr.String())
	if client == nil {
		t.Fatal("no line that subscribes")
	}
	viewer := start(t, "sub", "--nats", client[1], "--count", "1")
	if code := viewer.code(t); code != 0 || !strings.Contains(viewer.stdout.String(), `"customer"`) {
		t.Errorf("exit code %d, printed %q", code, &viewer.stdout)
	}

	lines := regexp.MustCompile(`(?m) (run --nats .*)$`).FindAllStringSubmatch(c.stderr.String(), -1)
	if len(lines) != 2 {
		t.Fatalf("%d lines that run a script, want 2", len(lines))
	}
	for i, want := range []string{"UPDATE 1", `"columns"`} {
		wantResult(t, call(t, nil, strings.Fields(lines[i][1])...), exitOK, want, "")
	}

	c.signal(t, syscall.SIGINT)
	if code := c.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// showsVisitors waits until there is something in each view of what visitors do.
func showsVisitors(t *testing.T, address string) {
	t.Helper()
	for view, shown := range map[string][]string{
		"transactions": {`"Blockers":\[[0-9]`, `"Caller":"clerk"`, `"Caller":"courier"`, `"Kind":"cursor"`, `"Kind":"copy in"[^}]*"Bytes":[1-9][^}]*"TotalBytes":[1-9]`},
		"jobs":         {`"Running":\[\{[^]]*"Script":"demo\.`, `"Ended":\[\{[^]]*"Script":"demo\.`},
		"scripts":      {`"demo.close_day"`},
	} {
		for _, text := range shown {
			wanted := regexp.MustCompile(text)
			testenv.Wait(t, 3*timeLimit, "the view of "+view+" to show "+text, func() bool {
				_, body := get(t, address, "/console/api/view?view="+view)
				return wanted.MatchString(body)
			})
		}
	}
}

func TestDevOnAnotherDatabase(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	serving := start(t, "serve", "--postgres", url, "--nats", testenv.NATS(t).URL(), "--channel", "mine", "--set", "http=off")
	says(t, &serving.stderr, "holds the publishing lock") // it is not disturbed, and in nobody's way
	c := start(t, "dev", "--postgres", url, "--channel", "mine", "--example", "--for", "30s")
	says(t, &c.stdout, "pgbridge.event.orders")
	testenv.Exec(t, url, "SELECT pg_notify('mine', 'x')")
	says(t, &c.stdout, "pgbridge.event.mine  x\n")
	c.signal(t, syscall.SIGTERM)
	if code := c.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if n := testenv.Value[int](t, url, "SELECT count(*)::int FROM pg_namespace WHERE nspname = 'pgbridge_example'"); n != 0 {
		t.Error("the example is still there")
	}
}

func TestDevEndsByItself(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	c := start(t, "dev", "--postgres", url, "--channel", "mine", "--for", "1s")
	if code := c.code(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestDevKeepsAnExampleThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	testenv.Exec(t, url, "CREATE SCHEMA pgbridge_example")
	r := call(t, nil, "dev", "--postgres", url, "--example")
	if r.code != exitFailed || !strings.Contains(r.stderr, "DROP SCHEMA pgbridge_example") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	if n := testenv.Value[int](t, url, "SELECT count(*)::int FROM pg_namespace WHERE nspname = 'pgbridge_example'"); n != 1 {
		t.Error("somebody else's schema is gone")
	}
}

func TestNotifyLine(t *testing.T) {
	t.Parallel()
	got := notifyLine("/x y/psql", "postgres://u:secret@h/d?a=1&b=2", true, `we"ird $x`)
	if strings.Contains(got, "secret") || !strings.HasSuffix(got, ` -c 'NOTIFY "we""ird $x", '\''hello'\'''`) {
		t.Errorf("line %s", got)
	}
	own := notifyLine("/x/psql", "postgres://postgres:secret@h/d?sslmode=disable", false, "orders")
	if environment, command, _ := strings.Cut(own, " "); environment != "PGPASSWORD=secret" || strings.Contains(command, "secret") {
		t.Errorf("line %s: every user of the machine can read the password", own)
	}
}
