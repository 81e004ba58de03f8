package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
)

// idleDaemon is one with all its parts that was never run.
func idleDaemon(t *testing.T) *daemon {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "scripts")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	path := configFile(t, "postgres: {url: \"postgres://app@127.0.0.1:1/app\"}\nnats: {url: \"nats://127.0.0.1:1\"}\nhttp: off\nscripts: "+folder+"\nsql: true\njobs: true\n")
	d, err := newDaemon(config.Sources{File: path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// TestProfilesAreOffAndForLoopback looks for profiles with and without the setting.
func TestProfilesAreOffAndForLoopback(t *testing.T) {
	t.Parallel()
	const config = "postgres: {url: \"postgres://app@127.0.0.1:1/app\"}\nnats: {url: \"nats://127.0.0.1:1\"}\nhttp: %s\npprof: %t\n"
	for setting, want := range map[bool]int{true: http.StatusOK, false: http.StatusNotFound} {
		c := start(t, "serve", "-c", configFile(t, fmt.Sprintf(config, "127.0.0.1:0", setting)))
		address := httpAddress(t, c)
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap"} {
			if code, _ := get(t, address, path); code != want {
				t.Errorf("pprof %t: %s answers %d, want %d", setting, path, code, want)
			}
		}
	}
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:8080", "'off'"} {
		c := start(t, "serve", "-c", configFile(t, fmt.Sprintf(config, address, true)))
		if code := c.code(t); code != exitUsage || !strings.Contains(c.stderr.String(), "pprof: profiles are served on a loopback address only") {
			t.Errorf("on %s: exit code %d, %s", address, code, &c.stderr)
		}
	}
}

// metric is what a part says of one of its metrics.
type metric struct{ name, labels, help string }

func described(t *testing.T, d *daemon) []metric {
	t.Helper()
	descs := make(chan *prometheus.Desc, 1000)
	for _, c := range d.told().Metrics {
		c.Describe(descs)
	}
	close(descs)
	named := regexp.MustCompile(`fqName: "([a-z_]+)", help: "(.*?)", constLabels: \{(?:([a-z]+)=".*")?\}, variableLabels: \{([a-z,]*)\}`)
	var all []metric
	for desc := range descs {
		m := named.FindStringSubmatch(desc.String())
		if m == nil {
			t.Fatalf("not understood: %s", desc)
		}
		labels := slices.DeleteFunc(append([]string{m[3]}, strings.Split(m[4], ",")...), func(l string) bool { return l == "" })
		one := metric{m[1], strings.Join(labels, ", "), m[2]}
		if !slices.Contains(all, one) { // two parts have services
			all = append(all, one)
		}
	}
	return all
}

func document(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMetricsAreDocumented compares the table with what the parts describe.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	var real, documented []string
	for _, m := range described(t, idleDaemon(t)) {
		real = append(real, m.name+" "+m.labels)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(pgbridge_[a-z_]+)` \\| ([a-z, ]*)\\|").FindAllStringSubmatch(document(t, "operations.md"), -1) {
		documented = append(documented, row[1]+" "+strings.TrimSpace(row[2]))
	}
	slices.Sort(real)
	slices.Sort(documented)
	for _, m := range real {
		if !slices.Contains(documented, m) {
			t.Errorf("%q is not documented", m)
		}
	}
	for i, m := range documented {
		if !slices.Contains(real, m) {
			t.Errorf("%q is documented and does not exist", m)
		}
		if i > 0 && documented[i-1] == m {
			t.Errorf("%q is documented twice", m)
		}
	}
}

// TestMetricsFollowTheConventions holds names to those of Prometheus: base units,
// _total for what only grows. https://prometheus.io/docs/practices/naming/
func TestMetricsFollowTheConventions(t *testing.T) {
	t.Parallel()
	d := idleDaemon(t)
	registry := prometheus.NewPedanticRegistry()
	for _, c := range d.told().Metrics {
		if err := registry.Register(c); err != nil {
			t.Error(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name, counter := f.GetName(), f.GetType().String() == "COUNTER"
		if counter != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s", name, f.GetType())
		}
	}
	for _, m := range described(t, d) {
		if regexp.MustCompile(`_(ms|milliseconds|minutes|kb|mb|percent|count|sum|bucket)(_|$)`).MatchString(m.name) {
			t.Errorf("%s: not a base unit, or a suffix of histograms", m.name)
		}
		if len(m.help) < 10 {
			t.Errorf("%s: its help is %q", m.name, m.help)
		}
	}
	if len(families) < 20 {
		t.Errorf("%d families: this test looks at nothing", len(families))
	}
}

// used returns the metrics of pgbridge's that a text names, without the suffixes of
// histograms, each once.
func used(text string) []string {
	var all []string
	for _, name := range regexp.MustCompile(`pgbridge_[a-z_]+`).FindAllString(text, -1) {
		all = append(all, regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, ""))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestDashboardAndAlertsNameRealMetrics compares their names and labels with what the
// parts describe; the dashboard leaves none out.
func TestDashboardAndAlertsNameRealMetrics(t *testing.T) {
	t.Parallel()
	labels := map[string]string{}
	for _, m := range described(t, idleDaemon(t)) {
		labels[m.name] += " " + m.labels
	}
	dashboard, alerts := deployed(t, "grafana/pgbridge.json"), deployed(t, "prometheus/alerts.yaml")
	for file, text := range map[string]string{"the dashboard": dashboard, "alerts.yaml": alerts} {
		names := used(text)
		for _, name := range names {
			if _, known := labels[name]; !known {
				t.Errorf("%s: there is no %s", file, name)
			}
		}
		if len(names) < 15 {
			t.Errorf("%s names %d metrics: this test looks at nothing", file, len(names))
		}
		for _, selector := range regexp.MustCompile(`(pgbridge_[a-z_]+)\{([^}]*)\}`).FindAllStringSubmatch(strings.ReplaceAll(text, `\"`, `"`), -1) {
			name := used(selector[1])[0]
			for _, label := range regexp.MustCompile(`([a-z]+)\s*(?:=|!=|=~|!~)"`).FindAllStringSubmatch(selector[2], -1) {
				if !strings.Contains(labels[name]+" namespace job", label[1]) {
					t.Errorf("%s: %s has no label %s", file, name, label[1])
				}
			}
		}
	}
	for name := range labels {
		if !slices.Contains(used(dashboard), name) && name != "pgbridge_config_last_reload_success_timestamp_seconds" {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

func deployed(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEveryAlertHasARunbook compares the rules with the sections of the guide.
func TestEveryAlertHasARunbook(t *testing.T) {
	t.Parallel()
	_, guide, _ := strings.Cut(document(t, "operations.md"), "\n## Alerts\n")
	guide, _, _ = strings.Cut(guide, "\n## ")
	var rules, sections []string
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(deployed(t, "prometheus/alerts.yaml"), -1) {
		rules = append(rules, m[1])
	}
	for _, section := range strings.Split(guide, "\n### ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		sections = append(sections, name)
		if len(strings.TrimSpace(text)) < 80 {
			t.Errorf("%s: its section says %q", name, text)
		}
	}
	if len(rules) == 0 || !slices.Equal(rules, sections) {
		t.Errorf("the alerts are\n%q, and the sections of the guide\n%q", rules, sections)
	}
}
