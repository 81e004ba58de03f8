package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestCompletion asks as the scripts of the shells do.
func TestCompletion(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t, "--channel", "audit", "--set", "channels.orders.notify=true")
	for _, tt := range []struct{ words, want string }{
		{"st", "status\tShow what each replica does, its problems and open transactions.\n:4\n"},
		{"jobs r", "result\tShow a job's result.\nretry\tLeave failed jobs once more, as they were.\nrm\tRemove jobs that are not done, or have failed.\n:4\n"},
		{"run --server URL tra", "transfer\n:4\n"},
		{"run -s URL transfer ", "amount=\nsource=\ntarget=\n:6\n"},
		{"run -s URL transfer source=1 a", "amount=\n:6\n"},
		{"copy -s URL ", "export_orders\nimport_orders\nupsert_orders\n:4\n"},
		{"cursor --nats URL orders.a", "orders.all\n:4\n"},
		{"sub -s URL ", "audit\norders\n:4\n"},
		{"notify -s URL ", "orders\n:4\n"},
		{"completion ", "bash\nfish\nzsh\n:4\n"},
		{"run --tlsc", "--tlsca\tWhat the server's certificate is checked with.\n--tlscert\tThe client's certificate.\n:4\n"},
		{"check --config ", ":0\n"},
	} {
		words := strings.Split(strings.ReplaceAll(tt.words, "URL", s.bus.URL()), " ")
		r := call(t, []string{"PGBRIDGE_ACTIVE_HELP=0", "PGBRIDGE_COMPLETION_TIMEOUT=20s"}, append([]string{"__complete"}, words...)...) // the first as fish sets it
		got := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
		want := strings.Split(strings.TrimSuffix(tt.want, "\n"), "\n")
		if r.code != exitOK || !sameWords(got, want) {
			t.Errorf("%q: code %d, %q, want %q", tt.words, r.code, r.stdout, tt.want)
		}
	}
}

// sameWords compares without regard to the order, which is the shell's business.
func sameWords(a, b []string) bool {
	seen := map[string]int{}
	for _, w := range a {
		seen[w]++
	}
	for _, w := range b {
		seen[w]--
	}
	for _, n := range seen {
		if n != 0 {
			return false
		}
	}
	return true
}

// Where nobody answers nothing is suggested, and nothing is said; not even where a
// server takes the connection and is silent.
func TestCompletionIsSilent(t *testing.T) {
	t.Parallel()
	frozen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { frozen.Close() })
	for _, url := range []string{"nats://127.0.0.1:1", "nats://" + frozen.Addr().String(), testenv.NATS(t).URL(), "nonsense://"} {
		r := call(t, nil, "__complete", "run", "-s", url, "")
		if r.code != exitOK || r.stdout != ":4\n" || r.stderr != "" {
			t.Errorf("%s: code %d, %q, %q", url, r.code, r.stdout, r.stderr)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		wantResult(t, call(t, nil, "completion", shell), exitOK, "__complete", "")
	}
	wantResult(t, call(t, nil, "completion", "csh"), exitUsage, "", "bash")
}

// TestMan writes a page for each command, with its options and examples.
func TestMan(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "man1")
	wantResult(t, call(t, nil, "man", folder), exitOK, "", "")
	for _, leaf := range leaves(t) {
		name := "pgbridge-" + strings.ReplaceAll(strings.TrimPrefix(leaf.Path(), "pgbridge "), " ", "-") + ".1"
		page, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, want := range []string{".SH SYNOPSIS", ".SH EXAMPLE", "pgbridge"} {
			if !strings.Contains(string(page), want) {
				t.Errorf("%s holds no %s", name, want)
			}
		}
	}
}
