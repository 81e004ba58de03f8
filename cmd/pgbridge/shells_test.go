//go:build shells

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// standIn is what the shells find as pgbridge: it completes as pgbridge does, and
// only notes what it is run with.
const standIn = `#!/bin/sh
case "$1" in
__complete | completion) exec env ` + asPgbridge + `=1 "%s" "$@" ;;
esac
{ for word in "$@"; do printf '%%s\n' "$word"; done; } >"$HOME/noted.new"
mv "$HOME/noted.new" "$HOME/noted"
`

// Each begins as its users are told to, and numbers its prompts.
var shellsBegin = map[string]struct {
	files map[string]string
	args  []string
}{
	"bash": {map[string]string{"rc": "source <(pgbridge completion bash)\nPROMPT_COMMAND='n=$((n+1)); PS1=\"ready $n> \"'\n"},
		[]string{"bash", "--noprofile", "--rcfile", "rc", "-i"}},
	"bash with bash-completion": {map[string]string{"rc": "for f in {/usr,/opt/homebrew,/usr/local}/share/bash-completion/bash_completion; do [ -e $f ] && source $f; done\n" +
		"declare -F _init_completion >/dev/null || exit 3\nsource <(pgbridge completion bash)\nPROMPT_COMMAND='n=$((n+1)); PS1=\"ready $n> \"'\n"},
		[]string{"bash", "--noprofile", "--rcfile", "rc", "-i"}},
	"zsh": {map[string]string{".zshrc": "mkdir -p ~/functions; fpath=(~/functions $fpath)\npgbridge completion zsh > \"${fpath[1]}/_pgbridge\"\n" +
		"autoload -U compinit; compinit -u -D\nprecmd() { n=$((n+1)); PROMPT=\"ready $n> \" }\n"},
		[]string{"zsh", "-i"}},
	// A folder that is there keeps fish from reading all man pages first.
	"fish": {map[string]string{".local/share/fish/generated_completions/none": "", ".config/fish/config.fish": "set -g fish_greeting\nset -g n 0\nfunction next_prompt --on-event fish_prompt; set -g n (math $n + 1); end\n" +
		"function fish_prompt; echo -n \"ready $n> \"; end\nmkdir -p ~/.config/fish/completions\npgbridge completion fish > ~/.config/fish/completions/pgbridge.fish\n"},
		[]string{"fish", "-i"}},
}

// shellAt starts a shell in a home of its own.
func shellAt(t *testing.T, name, server string) (s *seated, home string) {
	t.Helper()
	home = t.TempDir()
	files := map[string]string{"pgbridge.yaml": "", "folder/x": "", "bin/pgbridge": fmt.Sprintf(standIn, os.Args[0])}
	for file, text := range shellsBegin[name].files {
		files[file] = text
	}
	for file, text := range files {
		path := filepath.Join(home, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	args := shellsBegin[name].args
	program, err := exec.LookPath(args[0])
	if err != nil {
		t.Fatalf("%v: run make check-console", err)
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "ZDOTDIR=" + home, "PATH=" + filepath.Join(home, "bin") + ":" + os.Getenv("PATH"), "TERM=xterm", "LANG=C.UTF-8", "PGBRIDGE_NATS_URL=" + server, "PGBRIDGE_COMPLETION_TIMEOUT=20s"}
	return seat(t, cmd), home
}

// notes types a line, its tabs included, at the prompt with a number, and returns the
// words that pgbridge was run with.
func (s *seated) notes(t *testing.T, home string, prompt int, line string) string {
	t.Helper()
	s.shows(t, fmt.Sprintf("ready %d> ", prompt))
	s.types(t, line+"\r")
	var words []byte
	testenv.Wait(t, timeLimit, "the shell to run pgbridge "+line, func() (run bool) {
		var err error
		words, err = os.ReadFile(filepath.Join(home, "noted"))
		return err == nil
	})
	if err := os.Remove(filepath.Join(home, "noted")); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(strings.ReplaceAll(string(words), "\n", "|"), "|")
}

// TestCompletionInShells types half a word and the tab key, in each shell, and looks
// at what the shell runs. make check-console sees to the shells.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	const hostile = "h$(touch pwned)`touch pwned`;touch pwned; 'x"
	s.serve(t, "--channel", "audit", "--channel", "tenant:42", "--channel", "two words", "--channel", hostile,
		"--channel", "p$(touch pwned)1", "--channel", "p$(touch pwned)2")
	for name := range shellsBegin {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, home := shellAt(t, name, s.bus.URL())
			for i, tt := range []struct{ typed, want string }{
				{"pgbridge stat\t", "status"},
				{"pgbridge jobs resu\t", "jobs|result"},
				{"pgbridge run tra\tam\t5 so\t1", "run|transfer|amount=5|source=1"},
				{"pgbridge run --timeo\t5s orders.a\t", "run|--timeout|5s|orders.all"},
				{"pgbridge copy imp\t", "copy|import_orders"},
				{"pgbridge sub audi\t", "sub|audit"},
				{"pgbridge sub tenant:4\t", "sub|tenant:42"},
				{"pgbridge sub tw\t", "sub|two words"},
				{"pgbridge sub h\t", "sub|" + hostile},
				{"pgbridge sub h\taudi\t", "sub|" + hostile + "|audit"}, // behind a word that is complete
				{"pgbridge sub p\t", "sub|p"},
				{"pgbridge check --config pgb\t", "check|--config|pgbridge.yaml"},
				{"pgbridge man fo\t", "man|folder"},
			} {
				if got := strings.TrimSuffix(c.notes(t, home, i+1, tt.typed), "/"); got != tt.want {
					t.Errorf("%q runs %q, want %q", tt.typed, got, tt.want)
				}
			}
			if _, err := os.Stat(filepath.Join(home, "pwned")); err == nil {
				t.Error("the name of a channel was run")
			}
			wantQuiet(t, c)
			c, home = shellAt(t, name, "nats://127.0.0.1:1")
			for i, line := range []string{"pgbridge run tra\t", "pgbridge sub audi\t"} {
				want := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(line, "pgbridge "), "\t"), " ", "|")
				if got := c.notes(t, home, i+1, line); got != want {
					t.Errorf("with nobody there %q runs %q", line, got)
				}
			}
			wantQuiet(t, c)
		})
	}
}

// wantQuiet holds that nothing was said on the line that is typed.
func wantQuiet(t *testing.T, c *seated) {
	t.Helper()
	for _, said := range []string{"not found", "pgbridge: ", "rror"} {
		if strings.Contains(c.stdout.String(), said) {
			t.Errorf("the screen shows %q", said)
		}
	}
}
