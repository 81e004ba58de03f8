// Package docs_test holds the documents to what they describe: messages,
// metrics, links and snippets.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// events opens the connection that a bridge wants; nobody has to be there.
func events(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := natsconn.Events(natsconn.Settings{URLs: []string{url}}, natsconn.Keeper{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// TestMetricsAreDocumented compares the table with what the parts describe.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	const nowhere = "postgres://app@127.0.0.1/app"
	away := events(t, "nats://127.0.0.1:1")
	b, err := bridge.New(bridge.Config{ConnString: nowhere, Events: away})
	if err != nil {
		t.Fatal(err)
	}
	requests, err := natsconn.Requests(natsconn.Settings{URLs: []string{"nats://127.0.0.1:1"}}, natsconn.Keeper{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(requests.Close)
	r, err := txrunner.New(txrunner.Config{ConnString: nowhere, Requests: requests, Jobs: &txrunner.Jobs{}})
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc, 100)
	b.Describe(descs)
	r.Describe(descs)
	close(descs)
	var real []string
	named := regexp.MustCompile(`fqName: "([a-z_]+)".*constLabels: \{(?:([a-z]+)=".*")?\}, variableLabels: \{([a-z,]*)\}`)
	for d := range descs {
		m := named.FindStringSubmatch(d.String())
		labels := slices.DeleteFunc(append([]string{m[2]}, strings.Split(m[3], ",")...), func(l string) bool { return l == "" })
		real = append(real, m[1]+" "+strings.Join(labels, ", "))
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(pgbridge_[a-z_]+)` \\| ([a-z, ]*)\\|").FindAllStringSubmatch(read(t, "operations.md"), -1) {
		documented = append(documented, row[1]+" "+strings.TrimSpace(row[2]))
	}
	compare(t, "metrics", documented, real)
}

// compare reports what is only documented or only real.
func compare(t *testing.T, what string, documented, real []string) {
	t.Helper()
	for _, d := range documented {
		if !slices.Contains(real, d) {
			t.Errorf("%s: %q is documented and does not exist", what, d)
		}
	}
	for _, r := range real {
		if !slices.Contains(documented, r) {
			t.Errorf("%s: %q is not documented", what, r)
		}
	}
}

// TestProblemsAreDocumented finds each part that may be reported in the table
// of problems.
func TestProblemsAreDocumented(t *testing.T) {
	t.Parallel()
	text := read(t, "operations.md")
	var files []string
	for _, pattern := range []string{"../bridge/*.go", "../txrunner/*.go"} {
		some, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, some...)
	}
	said := regexp.MustCompile(`(?:rouble\("([^"]+)"|append\((?:problems|lines), "([^:"]+):|return \[\]string\{"([^:"]+): " \+)`)
	var parts []string
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		for _, m := range said.FindAllStringSubmatch(read(t, f), -1) {
			parts = append(parts, m[1]+m[2]+m[3])
		}
	}
	if len(parts) < 12 {
		t.Errorf("found only the parts %q in the source", parts)
	}
	for _, p := range parts {
		if !strings.Contains(text, "`"+p+": ") {
			t.Errorf("operations.md does not explain the problem %q", p)
		}
	}
}

// TestSnippetsAreTheExamples finds every line of code that a document shows in
// one of the examples.
func TestSnippetsAreTheExamples(t *testing.T) {
	t.Parallel()
	examples := map[string]string{
		"go": read(t, "../examples/subscribe/main.go") + read(t, "../examples/consume/main.go") + read(t, "../examples/transfer/main.go"),
		"js": read(t, "../examples/subscribe.mjs"),
	}
	shown := 0
	for _, document := range []string{"../README.md", "events.md", "requests.md"} {
		for _, block := range regexp.MustCompile("(?s)```(go|js)\n(.*?)```").FindAllStringSubmatch(read(t, document), -1) {
			shown++
			for line := range strings.Lines(block[2]) {
				if line = strings.TrimSpace(line); !strings.Contains(examples[block[1]], line) {
					t.Errorf("%s shows %q, which no example has", document, line)
				}
			}
		}
	}
	if shown != 6 {
		t.Errorf("%d snippets, want 6", shown)
	}
}

// TestLinksLeadSomewhere follows the links between documents.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range append(documents, "../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md", "../deploy/README.md") {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(read(t, document), -1) {
			if strings.HasPrefix(link[1], "https://") {
				continue
			}
			file, anchor, _ := strings.Cut(link[1], "#")
			target := document
			if file != "" {
				target = filepath.Join(filepath.Dir(document), file)
			}
			content := read(t, target)
			if anchor != "" && !slices.Contains(anchors(content), anchor) {
				t.Errorf("%s: %s has no heading #%s", document, target, anchor)
			}
		}
	}
}

// anchors are what the headings of a document are called in links.
func anchors(content string) []string {
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(content, -1) {
		plain := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}
