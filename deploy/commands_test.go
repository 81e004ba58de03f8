package deploy_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// commandsWork has the users of nats.conf do with the command line what it is for, each
// with the inbox prefix that is theirs; without it a command says so and ends.
func commandsWork(t *testing.T, d deployment) {
	t.Helper()
	rows := filepath.Join(filepath.Dir(d.config), "rows.csv")
	write(t, filepath.Dir(d.config), "rows.csv", "customer,total\nacme,1.50\n")
	for _, c := range []struct{ user, args, want string }{
		{"writer", "notify orders hello", ""},
		{"cashier", "describe transfer", "amount"},
		{"cashier", "run transfer source=1 target=2 amount=1.00", `"results"`},
		{"clerk", "run --job --id cli-1 transfer source=1 target=2 amount=1.00", `"results"`},
		{"accountant", "tx --isolation serializable --commit", "UPDATE"},
		{"exporter", "copy export_orders customer:=null", "id,customer,total"},
		{"exporter", "copy export_orders customer:=null --object exports/cli.csv", ""},
		{"admin", "copy import_orders " + rows, ""},
		{"admin", "cursor orders.all --csv", "id,"},
		{"admin", "ls", "transfer"},
		{"admin", "status", "publishing"},
		{"admin", "jobs ls", "cli-1"},
		{"admin", "jobs result cli-1", `"results"`},
		{"admin", "sub --last 1 --count 1", "pgbridge."},
	} {
		out, err := d.command(t, c.user, "_INBOX."+c.user, strings.Fields(c.args)...)
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %s: %v, want %q\n%s", c.user, c.args, err, c.want, out)
		}
	}
	for _, c := range []struct{ user, args string }{
		{"writer", "notify orders hello"}, {"cashier", "describe transfer"}, {"cashier", "run transfer source=1 target=2 amount=1.00"},
		{"clerk", "run --job --id cli-2 transfer source=1 target=2 amount=1.00"}, {"accountant", "tx --isolation serializable"},
		{"exporter", "copy export_orders customer:=null"},
	} {
		out, err := d.command(t, c.user, "", strings.Fields(c.args)...)
		if err == nil || !strings.Contains(strings.ToLower(out), "permissions violation") {
			t.Errorf("%s: %s without an inbox prefix: %v\n%s", c.user, c.args, err, out)
		}
	}
}

// command runs a command as a user of nats.conf and returns all that it says.
func (d deployment) command(t *testing.T, user, inbox string, args ...string) (string, error) {
	t.Helper()
	args = append(args, "--server", d.url, "--user", user)
	if inbox != "" {
		args = append(args, "--inbox-prefix", inbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.program, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PGBRIDGE_NATS_PASSWORD=change me", "PATH=" + os.Getenv("PATH")}
	var out bytes.Buffer
	cmd.Stdin = strings.NewReader("transfer source=1 target=2 amount=1.00\n") // for tx
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}
