package pgserver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// EnvBin names the environment variable with the folder of PostgreSQL's server
// programs that Find uses before it searches.
const EnvBin = "PGBRIDGE_POSTGRES_BIN"

// Binaries are the server programs of one PostgreSQL installation.
type Binaries struct {
	Dir      string // the folder that holds them, without symbolic links
	Postgres string // path of postgres
	InitDB   string // path of initdb
}

// Find locates a PostgreSQL installation: in explicitDir if that is not empty,
// else in the folder named by EnvBin, else on PATH, else in the folders where
// Debian, Homebrew and Postgres.app put it, newest major first. The error says
// where it looked and what to install.
func Find(explicitDir string) (Binaries, error) {
	return newFinder().find(explicitDir)
}

// FindMajor locates an installation of one major version in the folders of
// Debian, Homebrew and Postgres.app. It ignores EnvBin and PATH.
func FindMajor(major int) (Binaries, error) {
	return newFinder().findMajor(strconv.Itoa(major))
}

// Version returns what postgres --version prints, such as
// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
func (b Binaries) Version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, b.Postgres, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run %s --version: %w: %s", b.Postgres, err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// Tool returns the path of another program of the installation, such as
// pg_basebackup, or the one of that name on PATH if the installation has none.
func (b Binaries) Tool(name string) (string, error) {
	if path := filepath.Join(b.Dir, name); isProgram(path) {
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find %s in %s: %w", name, b.Dir, err)
	}
	return path, nil
}

// finder holds what a search depends on, so that a test can replace it.
type finder struct {
	getenv   func(string) string
	lookPath func(string) (string, error)
	patterns []string // folders; %s stands for the major version
}

func newFinder() finder {
	patterns := []string{
		"/usr/lib/postgresql/%s/bin",
		"/usr/pgsql-%s/bin",
		"/opt/homebrew/opt/postgresql@%s/bin",
		"/usr/local/opt/postgresql@%s/bin",
		"/Applications/Postgres.app/Contents/Versions/%s/bin",
	}
	return finder{getenv: os.Getenv, lookPath: exec.LookPath, patterns: patterns}
}

func (f finder) find(explicitDir string) (Binaries, error) {
	if explicitDir != "" {
		return binariesIn(explicitDir)
	}
	if dir := f.getenv(EnvBin); dir != "" {
		b, err := binariesIn(dir)
		if err != nil {
			return Binaries{}, fmt.Errorf("%s: %w", EnvBin, err)
		}
		return b, nil
	}
	if path, err := f.lookPath("postgres"); err == nil {
		if b, err := binariesBeside(path); err == nil {
			return b, nil
		}
	}
	return f.findMajor("*")
}

func (f finder) findMajor(major string) (Binaries, error) {
	for _, dir := range f.candidates(major) {
		if b, err := binariesIn(dir); err == nil {
			return b, nil
		}
	}
	return Binaries{}, fmt.Errorf("find PostgreSQL's postgres and initdb: not on PATH, nor in %s; install PostgreSQL's server (Debian: apt-get install postgresql, macOS: brew install postgresql@15) or set %s to the folder that holds them",
		fmt.Sprintf(strings.Join(f.patterns, ", "), repeat(major, len(f.patterns))...), EnvBin)
}

func repeat(s string, n int) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// candidates lists the existing folders of a major version ("*" for any), the
// newest first.
func (f finder) candidates(major string) []string {
	var dirs []string
	for _, pattern := range f.patterns {
		found, err := filepath.Glob(fmt.Sprintf(pattern, major))
		if err != nil {
			continue // only a malformed pattern, and these are constants
		}
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return majorOf(b) - majorOf(a) })
	return dirs
}

// majorOf reads the version number out of a folder such as
// /usr/lib/postgresql/15/bin, or 0.
func majorOf(dir string) int {
	name := filepath.Base(filepath.Dir(dir))
	n, err := strconv.Atoi(regexp.MustCompile(`\d+`).FindString(name))
	if err != nil {
		return 0
	}
	return n
}

// binariesBeside finds initdb next to a postgres that PATH led to, which may
// be a symbolic link into the installation.
func binariesBeside(postgres string) (Binaries, error) {
	path, err := filepath.EvalSymlinks(postgres)
	if err != nil {
		return Binaries{}, fmt.Errorf("find PostgreSQL: %w", err)
	}
	return binariesIn(filepath.Dir(path))
}

func binariesIn(dir string) (Binaries, error) {
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return Binaries{}, fmt.Errorf("find PostgreSQL: %w", err)
	}
	resolved, err = filepath.Abs(resolved)
	if err != nil {
		return Binaries{}, fmt.Errorf("find PostgreSQL: %w", err)
	}
	b := Binaries{
		Dir:      resolved,
		Postgres: filepath.Join(resolved, "postgres"),
		InitDB:   filepath.Join(resolved, "initdb"),
	}
	for _, path := range []string{b.Postgres, b.InitDB} {
		if !isProgram(path) {
			return Binaries{}, fmt.Errorf("find PostgreSQL: %s is not a program", path)
		}
	}
	return b, nil
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}
