package deploy_test

import (
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// TestChartsServerTakesItsConfiguration has nats-server read what its pod is given,
// with the users of nats.conf.
func TestChartsServerTakesItsConfiguration(t *testing.T) {
	t.Setenv("POD_NAME", "pgbridge-nats-0")
	t.Setenv("MAX_FILE_STORE", "8GB")
	dir := t.TempDir()
	write(t, dir, "nats.conf", file(t, "helm/pgbridge/files/nats.conf"))
	write(t, dir, "auth.conf", file(t, "nats.conf"))
	opts, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if opts.ServerName != "pgbridge-nats-0" || !opts.JetStream || opts.StoreDir != "/data" || opts.JetStreamMaxStore != 8<<30 || opts.HTTPPort != 8222 {
		t.Errorf("the server is %q, JetStream %t in %q up to %d bytes, probes at %d", opts.ServerName, opts.JetStream, opts.StoreDir, opts.JetStreamMaxStore, opts.HTTPPort)
	}
	if len(opts.Users) < 5 {
		t.Errorf("%d users, want those of nats.conf", len(opts.Users))
	}
}

// TestComposeServersTakeTheirConfiguration has nats-server read what the one and the
// three of compose.yaml are given.
func TestComposeServersTakeTheirConfiguration(t *testing.T) {
	t.Parallel()
	for name, routes := range map[string]int{"nats.conf": 0, "nats-three.conf": 3} {
		dir := t.TempDir()
		write(t, dir, "nats.conf", file(t, filepath.Join("compose", name)))
		write(t, dir, "users.conf", file(t, "nats.conf"))
		opts, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
		if err != nil {
			t.Fatal(err)
		}
		if !opts.JetStream || opts.StoreDir != "/data" || len(opts.Users) < 5 || len(opts.Routes) != routes {
			t.Errorf("%s: JetStream %t in %q, %d users, %d routes", name, opts.JetStream, opts.StoreDir, len(opts.Users), len(opts.Routes))
		}
	}
}
