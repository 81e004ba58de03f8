package shells

import (
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// CompletionCmd is the command that writes a shell's completion.
type CompletionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help shows examples.
func (CompletionCmd) Help() string {
	return `Writes a script that completes commands and flags, and asks the running pgbridge for
scripts, parameters, channels and jobs. Where none answers at once there are no such
suggestions.

Examples:

    source <(pgbridge completion bash)
    pgbridge completion zsh > "${fpath[1]}/_pgbridge"
    pgbridge completion fish > ~/.config/fish/completions/pgbridge.fish`
}

// Run writes the script.
func (cmd CompletionCmd) Run(k *kong.Kong, out io.Writer) error {
	return Script(k.Model, cmd.Shell, out)
}

// Version is the program's, for the pages.
type Version string

// ManCmd is the command that writes man pages.
type ManCmd struct {
	Folder string `arg:"" placeholder:"DIR" help:"Where to write them; it is made if it is missing."`
}

// Help shows examples.
func (ManCmd) Help() string {
	return `Writes a man page for each command.

Examples:

    pgbridge man /usr/local/share/man/man1
    pgbridge man . && man ./pgbridge-run.1`
}

// Run writes the pages.
func (cmd ManCmd) Run(k *kong.Kong, version Version) error {
	if err := os.MkdirAll(cmd.Folder, 0o755); err != nil {
		return err
	}
	if err := Manual(k.Model, cmd.Folder, string(version)); err != nil {
		return fmt.Errorf("write the man pages: %w", err)
	}
	return nil
}
