package console

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ShellWord quotes s for a POSIX shell where it has to be.
func ShellWord(s string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+=,", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !safe(r) }) {
		return s
	}
	if !strings.ContainsAny(s, "\"$`\\!") {
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// LookUp returns the path of a program on PATH, or "".
func LookUp(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// OwnCommand is what a person types to start this program again.
func OwnCommand() string {
	own, err := os.Executable()
	switch {
	case err != nil || own == LookUp("pgbridge"):
		return "pgbridge"
	case strings.Contains(own, string(filepath.Separator)+"go-build"):
		return "go run ./cmd/pgbridge"
	}
	if wd, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(wd, own); err == nil && !strings.HasPrefix(short, "..") {
			own = "." + string(filepath.Separator) + short
		}
	}
	return ShellWord(own)
}
