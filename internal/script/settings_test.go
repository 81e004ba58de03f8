package script

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	yes, no, three := true, false, 3
	s := mustParse(t, `-- Moves money.
-- isolation: repeatable_read
--read_only:true
-- deferrable : false
-- timeout: 1m30s
-- retries: 3

--
/* timeout: never */
-- See http://example.com and https:
-- Note: upper case, so no setting.
-- role: App_User
-- concurrency: 2
-- bucket: exports, archive-1,exports
;
copy t
-- nothing: here
to stdout`)
	want := Settings{
		Isolation: RepeatableRead, ReadOnly: &yes, Deferrable: &no, Timeout: 90 * time.Second,
		Retries: &three, Role: "app_user", Concurrency: 2, Buckets: []string{"exports", "archive-1"},
	}
	if !reflect.DeepEqual(s.Settings, want) {
		t.Errorf("Settings = %+v, want %+v", s.Settings, want)
	}
	text := "Moves money.\n\nSee http://example.com and https:\nNote: upper case, so no setting."
	if s.Description != text {
		t.Errorf("Description = %q, want %q", s.Description, text)
	}
}

// TestSettingsOfOtherTools are no faults, and no description.
func TestSettingsOfOtherTools(t *testing.T) {
	t.Parallel()
	s, err := ParseSQL("SELECT 1")
	if err != nil || len(s.Foreign) != 0 {
		t.Fatalf("ParseSQL() = %+v, %v", s, err)
	}
	s, err = Parse("a", "a.sql", []byte("-- name: GetOne :one\n-- noqa: disable=L016\n-- vim: set sw=4:\n-- Says one.\n-- timeout: 2s\nSELECT 1;"))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Foreign) != 3 || s.Foreign[1] != "noqa: disable=L016" || s.Description != "Says one." || s.Settings.Timeout != 2*time.Second {
		t.Errorf("Foreign = %q, Description = %q, Settings = %+v", s.Foreign, s.Description, s.Settings)
	}
}

func TestSettingFaults(t *testing.T) {
	t.Parallel()
	tests := []struct{ line, part string }{
		{"speed: high", "speed: unknown setting (known are bucket, concurrency,"},
		{"read-only: true", "read-only: unknown setting"},
		{"speed:", "unknown setting"},
		{"isolation: high", `"high" is no isolation level`},
		{"isolation:", `"" is no isolation level`},
		{"read_only: yes", `"yes" is neither true nor false`},
		{"deferrable: TRUE", "neither"},
		{"timeout: 2", "is no time"},
		{"timeout: -2s", "is no time"},
		{"timeout: 0s", "is no time"},
		{"retries: -1", "from 0 to 100"},
		{"retries: 1.5", "from 0 to 100"},
		{"concurrency: 0", "from 1 to"},
		{"role: a b", "is no role's name"},
		{"role: a-b", "is no role's name"},
		{"role: 'a'", "is no role's name"},
		{`role: "a`, "is no role's name"},
		{`role: ""`, "is no role's name"},
		{"role:", "is no role's name"},
		{"role: NONE", "is no role in PostgreSQL"},
		{"role: " + strings.Repeat("ä", 32), "more than 63 bytes"},
		{"bucket: a.b", "is no bucket's name"},
		{"bucket: a,", "is no bucket's name"},
		{"bucket: a", "only a COPY uses a bucket"},
		{"retries: 1\n-- retries: 2", "set twice"},
	}
	for _, test := range tests {
		_, err := Parse("a", "a.sql", []byte("-- "+test.line+"\nselect 1"))
		if err == nil || !strings.Contains(err.Error(), test.part) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("setting %q: %v, want one fault with %q", test.line, err, test.part)
		}
	}
}

func TestRoleInQuotes(t *testing.T) {
	t.Parallel()
	s := mustParse(t, `-- role: "App ""User"" -- x"
select 1`)
	if want := `App "User" -- x`; s.Settings.Role != want {
		t.Errorf("Role = %q, want %q", s.Settings.Role, want)
	}
}
