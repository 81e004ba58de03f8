package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/shell"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// leaves are the commands that do something.
func leaves(t *testing.T) []*kong.Node {
	t.Helper()
	var c cli
	parser, err := kong.New(&c, kong.Name("pgbridge"), kong.Bind(&process{}))
	if err != nil {
		t.Fatal(err)
	}
	var all []*kong.Node
	all = append(all, parser.Model.Leaves(true)...)
	return all
}

// invocations are the calls of pgbridge in a command's examples, each as its words.
func invocations(t *testing.T, node *kong.Node) (all [][]string) {
	t.Helper()
	for line := range strings.Lines(node.Detail) {
		if !strings.HasPrefix(line, "    ") {
			continue
		}
		for _, command := range commands(line) {
			words, err := shell.Words(command)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if at := slices.Index(words, "pgbridge"); at >= 0 && !slices.Contains(words, "xargs") {
				all = append(all, words[at+1:])
			}
		}
	}
	return all
}

// commands are those of a line, without what their input and output are.
func commands(line string) (all []string) {
	var command strings.Builder
	quote, redirected := rune(0), false
	end := func() {
		all = append(all, strings.TrimSpace(command.String()))
		command.Reset()
		redirected = false
	}
	for _, r := range line {
		switch {
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
		case r == quote:
			quote = 0
		case quote != 0:
		case r == '#':
			end()
			return all
		case strings.ContainsRune("|&()", r):
			end()
			continue
		case r == '>' || r == '<':
			redirected = true
		}
		if !redirected && r != '\n' {
			command.WriteRune(r)
		}
	}
	end()
	return all
}

// TestExamplesAreUnderstood holds that every command has examples, and that what they
// say can be said.
func TestExamplesAreUnderstood(t *testing.T) {
	t.Parallel()
	for _, leaf := range leaves(t) {
		calls := invocations(t, leaf)
		if len(calls) == 0 {
			t.Errorf("%s has no examples", leaf.FullPath())
		}
		for _, words := range calls {
			var c cli
			parser, err := kong.New(&c, kong.Name("pgbridge"), kong.Bind(&process{}), kong.Exit(func(int) {}))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(words); err != nil {
				t.Errorf("pgbridge %s: %v", strings.Join(words, " "), err)
			}
		}
	}
}

// exampled is what the examples speak of: servers, scripts, files, a job that failed.
type exampled struct {
	*scripted
	folder  string
	environ []string
	failing int
}

func newExampled(t *testing.T) *exampled {
	t.Helper()
	s := newScripted(t)
	wantResult(t, call(t, nil, append([]string{"migrate", "--set", "jobs=true", "--set", "channels.billing.durable=true"}, s.args()...)...), exitOK, "", "")
	js, err := jetstream.New(s.bus.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, bucket := range []string{"exports", "imports"} {
		if _, err := js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: bucket}); err != nil {
			t.Fatal(err)
		}
	}
	store, err := js.ObjectStore(t.Context(), "imports")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutString(t.Context(), "orders.csv", "customer,total\nAda,1.00\n"); err != nil {
		t.Fatal(err)
	}
	e := &exampled{scripted: s, folder: t.TempDir()}
	for name, content := range map[string]string{
		"pgbridge.yaml": "postgres: {url: '" + s.url + "'}\nnats: {url: '" + s.bus.URL() + "'}\nscripts: " + s.folder + "\nsql: true\n",
		"orders.csv":    "customer,total\nAda,1.00\n", "rows.json": `[{"a": 1}]`,
		"nats/context/staging.json": `{"url": "` + s.bus.URL() + `"}`,
	} {
		path := filepath.Join(e.folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		rewrite(t, path, content)
	}
	e.environ = []string{"PGBRIDGE_NATS_URL=" + s.bus.URL(), "XDG_CONFIG_HOME=" + e.folder}
	return e
}

// TestExamplesRun runs the examples of the commands that end by themselves, in the
// order in which they help each other, on what they speak of.
func TestExamplesRun(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("each command has a test of its own")
	}
	e := newExampled(t)
	e.serve(t, "--set", "jobs=true", "--set", "sql=true", "--set", "channels.orders.notify=true", "--set", "channels.billing.durable=true")
	ran := 0
	paths := []string{"init", "migrate", "check", "notify", "ls", "describe", "status", "run", "jobs", "tx", "copy", "cursor", "man", "version", "completion"}
	all := leaves(t)
	slices.SortStableFunc(all, func(a, b *kong.Node) int { return slices.Index(paths, top(a)) - slices.Index(paths, top(b)) })
	for _, leaf := range all {
		for _, words := range invocations(t, leaf) {
			text := strings.Join(words, " ")
			if goesOn.MatchString(text) || text == "migrate --drop-slot -c pgbridge.yaml" {
				continue
			}
			e.example(t, text, words)
			ran++
		}
	}
	if ran < 55 {
		t.Errorf("%d examples were run: this test looks at too little", ran)
	}
	if got := testenv.Value[int64](t, e.url, "SELECT count(*) FROM orders WHERE customer = 'Ada' AND total = 1.00"); got < 2 {
		t.Errorf("%d rows were copied in, want those from stdin and of the object", got)
	}
}

// example runs one that ends by itself.
func (e *exampled) example(t *testing.T, text string, words []string) {
	t.Helper()
	stdin := "transfer source=1 target=2 amount=5\n"
	switch {
	case words[0] == "copy":
		stdin = "customer,total\nAda,1.00\n"
	case words[0] == "tx" && !slices.Contains(words, "--commit"):
		stdin += "commit\n"
	}
	for i, word := range words {
		words[i] = here(word, e.folder, e.scripted)
	}
	if strings.HasPrefix(text, "jobs retry") || strings.HasPrefix(text, "jobs rm") {
		words[len(words)-1] = e.failedJob(t)
	}
	if text == "init" {
		words = append(words, filepath.Join(e.folder, "here"))
	}
	var stdout, stderr bytes.Buffer
	if code := run(words, e.environ, strings.NewReader(stdin), &stdout, &stderr); code != exitOK {
		t.Errorf("pgbridge %s: exit code %d, %s", text, code, &stderr)
	}
}

// failedJob leaves a job that fails, and waits until it is kept.
func (e *exampled) failedJob(t *testing.T) (id string) {
	t.Helper()
	e.failing++
	id = fmt.Sprintf("failing-%d", e.failing)
	wantResult(t, e.scripted.run(t, "--job", "--id", id, "transfer", "source=3", "target=2", "amount=100000"), exitFailed, "", "sql_error")
	kept := regexp.MustCompile(`"id":"` + id + `"[^}]*"state":"failed"`)
	testenv.Wait(t, timeLimit, "the failed job to be kept", func() bool {
		return kept.MatchString(call(t, e.environ, "jobs", "ls", "--json").stdout)
	})
	return id
}

// goesOn are the examples that end with a signal, or with the time they are given.
var goesOn = regexp.MustCompile(`^(serve|dev|sub)\b|--watch`)

// TestExamplesThatGoOn starts the others, waits until they say something, and ends
// them as a person would.
func TestExamplesThatGoOn(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("each command has a test of its own")
	}
	e := newExampled(t)
	e.serve(t, "--set", "channels.orders.notify=true", "--channel", "audit", "--set", "channels.audit.delivery=jetstream", "--set", "channels.billing.durable=true")
	for _, leaf := range leaves(t) {
		for _, words := range invocations(t, leaf) {
			if text := strings.Join(words, " "); goesOn.MatchString(text) {
				t.Run(text, func(t *testing.T) {
					t.Parallel()
					e.goOn(t, words)
				})
			}
		}
	}
}

func (e *exampled) goOn(t *testing.T, words []string) {
	t.Helper()
	for i, word := range words {
		words[i] = here(word, e.folder, e.scripted)
		if words[0] == "dev" && strings.HasPrefix(word, "postgres://") { // where no other one publishes
			words[i] = testenv.Postgres(t).NewDatabase(t)
		}
	}
	said := ""
	switch server := e.bus.URL(); words[0] {
	case "serve":
		if slices.Contains(words, "nats.embedded=true") {
			server = "nats://127.0.0.1:0"
		}
		words = append(words, "--nats", server, "--set", "http=127.0.0.1:0", "--set", "prefix=p"+nuid.Next())
		said = "listener connected"
	case "dev":
		said = "http://"
	}
	c := startWith(t, e.environ, words...)
	publishes := func() {
		if words[0] == "sub" {
			testenv.Exec(t, e.url, "SELECT pg_notify('orders', '{}'), pg_notify('audit', '{}'), pgbridge.notify('billing', '{}')")
		}
	}
	if endsByItself := slices.Contains(words, "--count"); endsByItself {
		testenv.Wait(t, timeLimit, "the command to end", func() bool {
			publishes()
			return c.hasExited()
		})
	} else {
		testenv.Wait(t, timeLimit, "the command to say something", func() bool {
			publishes()
			if said != "" {
				return strings.Contains(c.stderr.String(), said)
			}
			return c.stdout.String() != ""
		})
		c.signal(t, syscall.SIGINT)
	}
	if code := c.code(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// top is the command's own name, or that of the command it belongs to.
func top(node *kong.Node) string {
	for node.Parent != nil && node.Parent.Type == kong.CommandNode {
		node = node.Parent
	}
	return node.Name
}

// here makes an example speak of this test's servers and files.
func here(word, folder string, s *scripted) string {
	switch {
	case strings.HasPrefix(word, "postgres://"):
		return s.url
	case strings.HasPrefix(word, "nats://"):
		return s.bus.URL()
	case word == "shop":
		return filepath.Join(folder, "shop")
	case word == "shop/pgbridge.yaml":
		return filepath.Join(folder, word)
	case word == "." || word == "/usr/local/share/man/man1":
		return filepath.Join(folder, "man")
	}
	for _, file := range []string{"pgbridge.yaml", "orders.csv", "rows.json"} {
		if word == file || strings.HasSuffix(word, "=@"+file) {
			return strings.TrimSuffix(word, file) + filepath.Join(folder, file)
		}
	}
	return word
}
