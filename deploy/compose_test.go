//go:build tools

package deploy_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestComposeStarts does what compose.yaml does, in its order and with its commands,
// but with the servers of the tests: no registry is asked for an image.
func TestComposeStarts(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services map[string]struct{ Command []string }
	}
	if err := yaml.Unmarshal([]byte(file(t, "compose.yaml")), &compose); err != nil {
		t.Fatal(err)
	}
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	testenv.Exec(t, pg.URL(), "CREATE DATABASE app TEMPLATE template0")
	testenv.Exec(t, pg.Server().URL("app"), file(t, "../examples/schema.sql"))
	testenv.Exec(t, pg.URL(), "ALTER ROLE postgres PASSWORD 'change me'")
	bus := testenv.NATSProcess(t, file(t, "nats.conf"))
	port, err := pgserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	scripts, err := filepath.Abs("../examples/scripts")
	if err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer(
		"@postgres/", "@"+pg.Addr()+"/", "-h postgres ", fmt.Sprintf("-h 127.0.0.1 -p %d ", pg.Port()),
		"nats://nats-1:4222", bus.URL(), "0.0.0.0:8080", fmt.Sprintf("127.0.0.1:%d", port),
		"/run/secrets/", dir+"/", "/etc/pgbridge/", dir+"/", "/setup/", dir+"/", "/scripts", scripts, "$$", "$",
	)
	write(t, dir, "pgbridge.yaml", here.Replace(file(t, "compose/pgbridge.yaml")))
	for _, name := range []string{"compose/password", "compose/setup.sql", "role.sql"} {
		write(t, dir, filepath.Base(name), file(t, name))
	}
	command := func(service string) (words []string) {
		for _, word := range compose.Services[service].Command {
			words = append(words, here.Replace(word))
		}
		return words
	}

	d := deployment{program: build(t), config: filepath.Join(dir, "pgbridge.yaml"), url: bus.URL(), web: fmt.Sprintf("http://127.0.0.1:%d", port)}
	for range 2 { // each start does it again
		d.run(t, command("migrate")...)
		role := exec.Command("sh", "-c", command("role")[0])
		role.Env = append(os.Environ(), "PGSSLMODE=disable")
		if out, err := role.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", role, err, out)
		}
	}
	d.run(t, "check", "-c", d.config)
	serve(t, d.program, d.config)
	awaitPublishing(t, d.web+"/readyz")
	makeConsumers(t, d.url, "nats.conf")
	readerHearsWriter(t, d.url)
	cashierRuns(t, d.url)

	owner := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", "change me"), Host: pg.Addr(), Path: "app", RawQuery: "sslmode=disable"}
	if super := testenv.Value[bool](t, owner.String(), "SELECT rolsuper FROM pg_roles WHERE rolname = 'pgbridge'"); super {
		t.Error("pgbridge logs in as a superuser")
	}
}
