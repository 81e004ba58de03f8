package subject

import (
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestToken(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":               "",
		"orders":         "orders",
		"Orders_2-x":     "Orders_2-x",
		"a.b":            "a%2Eb",
		"50%":            "50%25",
		"*":              "%2A",
		">":              "%3E",
		"two words\r\n":  "two%20words%0D%0A",
		"é":              "%C3%A9",
		"\xff\x00":       "%FF%00",
		"%2E":            "%252E",
		`say "hi"; $SRV`: "say%20%22hi%22%3B%20%24SRV",
	} {
		if got := Token(s); got != want {
			t.Errorf("Token(%q) = %q, want %q", s, got, want)
		}
		if got, err := Untoken(want); err != nil || got != s {
			t.Errorf("Untoken(%q) = %q, %v, want %q", want, got, err, s)
		}
	}
}

func TestUntokenRefuses(t *testing.T) {
	t.Parallel()
	for _, token := range []string{
		"%", "%2", "x%", "%2e", "%GG", "%41", "%5F", "%%25", "a.b", "a b", "*", "é", "ok%2Eok%2",
	} {
		if got, err := Untoken(token); err == nil {
			t.Errorf("Untoken(%q) = %q, want an error", token, got)
		}
	}
}

var tokenPattern = regexp.MustCompile(`^(?:[A-Za-z0-9_-]|%[0-9A-F]{2})*$`)

func checkString(t interface {
	Helper()
	Fatalf(string, ...any)
}, s string) {
	t.Helper()
	token := Token(s)
	if !tokenPattern.MatchString(token) {
		t.Fatalf("Token(%q) = %q, not one token", s, token)
	}
	if got := string(AppendToken([]byte("x."), s)); got != "x."+token {
		t.Fatalf("AppendToken(%q) = %q, want %q", s, got, "x."+token)
	}
	if back, err := Untoken(token); err != nil || back != s {
		t.Fatalf("Untoken(%q) = %q, %v, want %q", token, back, err, s)
	}
}

func checkToken(t interface {
	Helper()
	Fatalf(string, ...any)
}, token string) {
	t.Helper()
	s, err := Untoken(token)
	if err == nil && Token(s) != token {
		t.Fatalf("Untoken(%q) = %q, whose token is %q", token, s, Token(s))
	}
}

func TestTokenIsInvertible(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		checkString(t, string(rapid.SliceOf(rapid.Byte()).Draw(t, "s")))
	})
}

func TestUntokenIsStrict(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		checkToken(t, rapid.StringMatching(`(%?[0-9A-Fa-f.]{0,2}){0,6}`).Draw(t, "token"))
	})
}

func FuzzUntoken(f *testing.F) {
	for _, s := range []string{"", "orders", "a%2Eb", "%", "%2e", "%41", "\xff", "%FF%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkString(t, s)
		checkToken(t, s)
	})
}

func TestCleanStringsDoNotAllocate(t *testing.T) {
	clean := strings.Repeat("aZ09_-", 10)
	dirty := strings.Repeat("a.Z%", 10)
	buffer := make([]byte, 0, 256)
	for name, f := range map[string]func(){
		"Token":       func() { Token(clean) },
		"Untoken":     func() { _, _ = Untoken(clean) },
		"AppendToken": func() { _ = AppendToken(buffer, dirty) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s allocates %v times, want 0", name, got)
		}
	}
}
