package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/bridge"
)

// TestEveryKeyIsDocumented compares docs/configuration.md with the settings:
// the keys, their variables and their defaults.
func TestEveryKeyIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_.<>]+)` \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		rows[row[1]] = strings.Split(row[2], " | ")
	}
	var keys []string
	for _, s := range newConfig().settings() {
		keys = append(keys, s.key)
		row := rows[s.key]
		if len(row) != 3 {
			t.Errorf("%s has no row with variable, default and meaning", s.key)
			continue
		}
		if want := "`" + envName(s.key) + "`"; row[0] != want {
			t.Errorf("%s: the variable is %s, want %s", s.key, row[0], want)
		}
		if value := documentedForm(s.raw()); value != "" && row[1] != "`"+value+"`" {
			t.Errorf("%s: the default is %s, want `%s`", s.key, row[1], value)
		}
	}
	for _, s := range channelSettings("<name>", &bridge.Channel{}) {
		keys = append(keys, s.key)
		if len(rows[s.key]) != 2 {
			t.Errorf("%s has no row with default and meaning", s.key)
		}
	}
	for key := range rows {
		if !slices.Contains(keys, key) {
			t.Errorf("%s is documented and no key", key)
		}
	}
}

// documentedForm drops what time.Duration prints and nobody writes: 72h0m0s.
func documentedForm(value string) string {
	if regexp.MustCompile(`^\d+h0m0s$`).MatchString(value) {
		return strings.TrimSuffix(value, "0m0s")
	}
	if regexp.MustCompile(`^\d+m0s$`).MatchString(value) {
		return strings.TrimSuffix(value, "0s")
	}
	return value
}

// TestDocumentedFilesAreValid loads each configuration that a document shows.
func TestDocumentedFilesAreValid(t *testing.T) {
	t.Parallel()
	shown := 0
	for _, document := range []string{"../../../../README.md", "../../../../docs/configuration.md", "../../../../docs/events.md"} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			shown++
			content := block[1]
			if !strings.Contains(content, "postgres:") {
				content += least
			}
			if _, err := (Sources{File: configFile(t, content)}).Load(); err != nil {
				t.Errorf("%s:\n%s\n%v", document, block[1], err)
			}
		}
	}
	if shown < 3 {
		t.Errorf("%d configurations are shown, want at least 3", shown)
	}
}
