package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/shell"
)

func cliDocument(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCommandsAreDocumented compares the table of commands with those that there are.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	table, _, _ := strings.Cut(cliDocument(t), "\n## ")
	var documented, real []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z ]+)` \\|").FindAllStringSubmatch(table, -1) {
		documented = append(documented, row[1])
	}
	for _, leaf := range leaves(t) {
		real = append(real, strings.TrimPrefix(leaf.Path(), "pgbridge "))
	}
	slices.Sort(documented)
	slices.Sort(real)
	if !slices.Equal(documented, real) {
		t.Errorf("documented are %q, there are %q", documented, real)
	}
}

// TestExitCodesAreDocumented does what the table of exit codes says, and compares.
func TestExitCodesAreDocumented(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	wantResult(t, call(t, nil, append([]string{"migrate", "--set", "jobs=true"}, s.args()...)...), exitOK, "", "")
	s.serve(t, "--set", "jobs=true", "--channel", "audit")
	_, table, _ := strings.Cut(cliDocument(t), "## Exit codes")
	rows := regexp.MustCompile("(?m)^\\| [^|]+ \\| `pgbridge ([^|]+)` \\| ([0-9]) \\| (?:`([^|]+)`)? ?\\|$").FindAllStringSubmatch(table, -1)
	if lines := strings.Count(table, "\n| ") - 1; len(rows) != lines || lines < 15 {
		t.Fatalf("%d of the %d rows are understood", len(rows), lines)
	}
	environ := []string{"PGBRIDGE_NATS_URL=" + s.bus.URL(), "HOME=" + t.TempDir()}
	for _, row := range rows {
		words, err := shell.Words(row[1])
		if err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		code := run(words, environ, strings.NewReader("account id=1\n"), &stdout, &stderr)
		if want, _ := strconv.Atoi(row[2]); code != want || !strings.Contains(stderr.String(), row[3]) || row[3] == "" && stderr.Len() > 0 {
			t.Errorf("pgbridge %s: exit code %d, %s; documented are %s, %q", row[1], code, &stderr, row[2], row[3])
		}
	}
}
