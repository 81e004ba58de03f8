package prometheus_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/dns"
)

// TestPrometheusTakesComposesConfiguration loads what compose.yaml gives to Prometheus as
// that does, which knows no field but its own.
func TestPrometheusTakesComposesConfiguration(t *testing.T) {
	t.Parallel()
	loaded, err := config.LoadFile(filepath.Join("..", "compose", "prometheus.yaml"), false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	scrapes, err := loaded.GetScrapeConfigs()
	if err != nil || len(scrapes) != 1 || len(scrapes[0].ServiceDiscoveryConfigs) != 1 {
		t.Fatalf("%d configurations of scraping, %v", len(scrapes), err)
	}
	if found, ok := scrapes[0].ServiceDiscoveryConfigs[0].(*dns.SDConfig); !ok || found.Port != 8080 || scrapes[0].MetricsPath != "/metrics" {
		t.Errorf("it scrapes %+v", scrapes[0])
	}
}
