// Package compose_test reads compose.yaml as docker compose does, and compares what
// it starts with the files that it mounts. It is a module of its own, because nothing
// else needs the library.
package compose_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

func load(t *testing.T, files ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions(files, cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// each runs a test with one nats-server and with three.
func each(t *testing.T, test func(*testing.T, *types.Project, []string)) {
	t.Helper()
	t.Run("one", func(t *testing.T) { test(t, load(t, "../compose.yaml"), []string{"nats-1"}) })
	t.Run("three", func(t *testing.T) {
		test(t, load(t, "../compose.yaml", "../compose.three.yaml"), []string{"nats-1", "nats-2", "nats-3"})
	})
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// mounted returns the file that a service sees at a path.
func mounted(t *testing.T, p *types.Project, service, at string) string {
	t.Helper()
	s := p.Services[service]
	for _, v := range s.Volumes {
		if v.Type == types.VolumeTypeBind && (v.Target == at || strings.HasPrefix(at, v.Target+"/")) {
			return filepath.Join(v.Source, strings.TrimPrefix(at, v.Target))
		}
	}
	for _, secret := range s.Secrets {
		if at == path.Join("/run/secrets", secret.Source) {
			return p.Secrets[secret.Source].File
		}
	}
	t.Errorf("%s has nothing at %s", service, at)
	return os.DevNull
}

// TestWhatIsMountedIsThere wants every file, and no file that nobody mounts.
func TestWhatIsMountedIsThere(t *testing.T) {
	t.Parallel()
	used := []string{}
	each(t, func(t *testing.T, p *types.Project, _ []string) {
		for name, s := range p.Services {
			for _, v := range s.Volumes {
				if v.Type != types.VolumeTypeBind {
					continue
				}
				if _, err := os.Stat(v.Source); err != nil || !v.ReadOnly {
					t.Errorf("%s mounts %s, read-only %t: %v", name, v.Source, v.ReadOnly, err)
				}
				used = append(used, v.Source)
			}
		}
		for _, secret := range p.Secrets {
			used = append(used, secret.File)
		}
	})
	files, err := filepath.Glob("*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		whole, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(used, whole) && !strings.HasPrefix(file, "go.") && !strings.HasSuffix(file, ".go") {
			t.Errorf("nobody mounts %s", file)
		}
	}
}

// TestNobodyElseReachesIt wants ports on the loopback only, images by their version,
// and pgbridge confined.
func TestNobodyElseReachesIt(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *types.Project, _ []string) {
		for name, s := range p.Services {
			for _, port := range s.Ports {
				if port.HostIP != "127.0.0.1" {
					t.Errorf("%s has port %s on %q", name, port.Published, port.HostIP)
				}
			}
			if s.Build == nil && !regexp.MustCompile(`:v?\d+\.\d+(\.\d+)?$`).MatchString(s.Image) {
				t.Errorf("%s is of the image %s, want a version", name, s.Image)
			}
			if s.Build != nil && (!s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true")) {
				t.Errorf("%s is not confined", name)
			}
		}
	})
}

// TestPgbridgeFindsTheServers compares pgbridge.yaml with the services.
func TestPgbridgeFindsTheServers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, p *types.Project, servers []string) {
		s := p.Services["pgbridge"]
		if replicas := s.GetScale(); replicas != 2 {
			t.Errorf("%d replicas, want 2", replicas)
		}
		if len(s.Command) > 0 {
			t.Errorf("pgbridge runs %q, want what the image does", s.Command)
		}
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) < 35*time.Second {
			t.Errorf("pgbridge has %v to stop, want 10 s more than stop.grace", s.StopGracePeriod)
		}
		var config struct {
			Postgres struct {
				URL          string `json:"url"`
				PasswordFile string `json:"password_file"`
			} `json:"postgres"`
			NATS struct {
				URL          string `json:"url"`
				PasswordFile string `json:"password_file"`
			} `json:"nats"`
			Scripts string `json:"scripts"`
		}
		decode(t, mounted(t, p, "pgbridge", "/etc/pgbridge/pgbridge.yaml"), &config)
		for _, at := range []string{config.Postgres.PasswordFile, config.NATS.PasswordFile, config.Scripts} {
			if _, err := os.Stat(mounted(t, p, "pgbridge", at)); err != nil {
				t.Error(err)
			}
		}
		if host := hosts(t, config.Postgres.URL); !slices.Equal(host, []string{"postgres"}) {
			t.Errorf("PostgreSQL is looked for at %q", host)
		}
		urls := config.NATS.URL
		if other := s.Environment["PGBRIDGE_NATS_URL"]; other != nil {
			urls = *other
		}
		if got := hosts(t, strings.Split(urls, ",")...); !slices.Equal(got, servers) {
			t.Errorf("NATS is looked for at %q, want %q", got, servers)
		}
		for _, server := range servers {
			if _, ok := p.Services[server]; !ok {
				t.Errorf("there is no %s", server)
			}
		}
	})
}

func hosts(t *testing.T, urls ...string) []string {
	t.Helper()
	var names []string
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, u.Hostname())
	}
	return names
}

// TestDashboardIsProvisioned follows the way from Grafana to the replicas.
func TestDashboardIsProvisioned(t *testing.T) {
	t.Parallel()
	p := load(t, "../compose.yaml")
	var sources struct {
		Datasources []struct{ Type, URL string }
	}
	decode(t, mounted(t, p, "grafana", "/etc/grafana/provisioning/datasources/prometheus.yaml"), &sources)
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" || sources.Datasources[0].URL != "http://prometheus:9090" {
		t.Errorf("Grafana's sources are %+v", sources.Datasources)
	}
	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	decode(t, mounted(t, p, "grafana", "/etc/grafana/provisioning/dashboards/pgbridge.yaml"), &dashboards)
	text, err := os.ReadFile(mounted(t, p, "grafana", path.Join(dashboards.Providers[0].Options.Path, "pgbridge.json")))
	if err != nil || !json.Valid(text) {
		t.Errorf("the dashboard: %v, JSON %t", err, json.Valid(text))
	}
	if own, err := os.ReadFile("../grafana/pgbridge.json"); err != nil || !bytes.Equal(own, text) {
		t.Errorf("the dashboard is another one: %v", err)
	}

	var prometheus struct {
		RuleFiles     []string `json:"rule_files"`
		ScrapeConfigs []struct {
			DNS []struct {
				Names []string
				Port  int
			} `json:"dns_sd_configs"`
		} `json:"scrape_configs"`
	}
	decode(t, mounted(t, p, "prometheus", "/etc/prometheus/prometheus.yaml"), &prometheus)
	for _, file := range prometheus.RuleFiles {
		var rules struct{ Groups []any }
		decode(t, mounted(t, p, "prometheus", path.Join("/etc/prometheus", file)), &rules)
		if len(rules.Groups) == 0 {
			t.Errorf("%s has no rules", file)
		}
	}
	if dns := prometheus.ScrapeConfigs[0].DNS[0]; !slices.Equal(dns.Names, []string{"pgbridge"}) || dns.Port != 8080 {
		t.Errorf("Prometheus asks %v", dns)
	}
}
