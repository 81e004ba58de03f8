package script

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// write makes files below dir; a content of "-> x" makes a link to x.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, isLink := strings.CutPrefix(files[name], "-> "); isLink {
			err = errors.Join(err, os.Symlink(target, path))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(files[name]), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func names(s Scripts) []string { return slices.Sorted(maps.Keys(s)) }

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"a.sql": "select 1", "billing/In_voice-1.sql": "select @a", "billing/deep/er/b.sql": "select 2",
		"README.md": "'", ".hidden.sql": "'", ".git/x.sql": "'", "billing/.x/y.sql": "'", "bad dir/readme": "'", "c.SQL": "'",
	})
	scripts, err := Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "billing.In_voice-1", "billing.deep.er.b"}; !slices.Equal(names(scripts), want) {
		t.Errorf("scripts are %q, want %q", names(scripts), want)
	}
	s := scripts["billing.In_voice-1"]
	if s.Name != "billing.In_voice-1" || s.File != filepath.Join(dir, "billing/In_voice-1.sql") {
		t.Errorf("script is %+v", s)
	}
}

func TestLoadKubernetesMount(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"..2026_1/a.sql": "select 1", "..2026_1/billing/b.sql": "select 2",
		"..2026_2/a.sql": "select 3", "..2026_2/billing/b.sql": "select 2",
		"..data": "-> ..2026_1", "a.sql": "-> ..data/a.sql", "billing": "-> ..data/billing",
	})
	first, err := Load(dir, nil)
	if err != nil || !slices.Equal(names(first), []string{"a", "billing.b"}) {
		t.Fatalf("Load() = %q, %v", names(first), err)
	}
	if err := errors.Join(os.Symlink("..2026_2", filepath.Join(dir, "..tmp")), os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data"))); err != nil {
		t.Fatal(err)
	}
	second, err := Load(dir, first)
	if err != nil || second["a"].Statements[0].SQL != "select 3" {
		t.Fatalf("Load() after the swap = %+v, %v", second["a"], err)
	}
	if second["billing.b"] != first["billing.b"] {
		t.Error("an unchanged script is another one now")
	}
}

func TestLoadFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"good.sql": "select 1", "a.sql": "select '", "b/c.sql": "commit;\nselect $1", "b.c.sql": "select 1", "bad dir/x/y.sql": "select 1",
		"ä.sql": "select 1", "gone.sql": "-> nowhere.sql", "loop/self": "-> ..", "folder": "-> nowhere", "d/big.sql": "",
	})
	err := errors.Join(
		syscall.Mkfifo(filepath.Join(dir, "fifo.sql"), 0o644),
		os.Truncate(filepath.Join(dir, "d/big.sql"), MaxBytes+1))
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := Load(dir, nil)
	if !slices.Equal(names(scripts), []string{"good"}) {
		t.Errorf("scripts are %q, want the good one", names(scripts))
	}
	want := []string{
		"a.sql:1:8: ", "b.c.sql: ", "b/c.sql:1:1: ", "b/c.sql:2:8: ", "bad dir/x/y.sql: ", "d/big.sql: ",
		"fifo.sql: ", "folder: ", "gone.sql: ", "loop/self: ", "ä.sql: ",
	}
	faults, _ := errors.AsType[Errors](err)
	if len(faults) != len(want) {
		t.Fatalf("faults are\n%v\nwant %d", err, len(want))
	}
	for i, fault := range faults {
		if !strings.HasPrefix(fault.Error(), dir+"/"+want[i]) {
			t.Errorf("fault %d is %v, want %s…", i, fault, want[i])
		}
	}
}

func TestLoadKeepsTheLastGoodForm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.sql": "select 1", "b.sql": "select 1", "c/d.sql": "select 1", "e.sql": "select 1"})
	first, err := Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.Remove(filepath.Join(dir, "b.sql")),
		os.RemoveAll(filepath.Join(dir, "c")),
		os.WriteFile(filepath.Join(dir, "e.sql"), []byte("select 2"), 0o644))
	write(t, dir, map[string]string{"a.sql": "select '", "c": "-> nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Load(dir, first)
	if !slices.Equal(names(second), []string{"a", "c.d", "e"}) || second["a"] != first["a"] || second["c.d"] != first["c.d"] {
		t.Errorf("scripts are %q, %v, want a and c.d as they were, and e", names(second), err)
	}
	if faults, _ := errors.AsType[Errors](err); len(faults) != 2 {
		t.Errorf("Load() = %v, want two faults", err)
	}
	if second["e"].Statements[0].SQL != "select 2" {
		t.Errorf("e is %q, want its new form", second["e"].Statements[0].SQL)
	}
}

func TestLoadWithoutFolder(t *testing.T) {
	t.Parallel()
	last := Scripts{"a": {}}
	scripts, err := Load(filepath.Join(t.TempDir(), "none"), last)
	if !errors.Is(err, os.ErrNotExist) || len(scripts) != 1 {
		t.Errorf("Load() = %v, %v, want the last scripts and not-exist", scripts, err)
	}
}

func BenchmarkLoad(b *testing.B) {
	const files = 10_000
	dir := b.TempDir()
	all := make(map[string]string, files)
	for i := range files {
		all[fmt.Sprintf("group%d/script%d.sql", i%100, i)] = `-- Moves money between two accounts.
-- isolation: serializable
-- timeout: 2s
UPDATE account SET balance = balance - @amount WHERE id = @source AND balance >= @amount;
UPDATE account SET balance = balance + @amount WHERE id = @target;
`
	}
	write(b, dir, all)
	load := func(b *testing.B, last Scripts) Scripts {
		scripts, err := Load(dir, last)
		if err != nil || len(scripts) != files {
			b.Fatalf("Load() = %d scripts, %v", len(scripts), err)
		}
		return scripts
	}
	last := load(b, nil)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			load(b, nil)
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			load(b, last)
		}
	})
}

// Whoever may write to the folder can have a script be a link to any file that pgbridge
// may read: nothing of it is told, in the log or to whoever asks for the faults.
func TestLinksToSecretsAreNotQuoted(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	for _, content := range []string{
		secret, secret + "\n", secret + ": x", "\"" + secret + "\": x", "{\"password\": \"" + secret + "\"}", "password=" + secret,
		"host:5432:db:user:" + secret, "'" + secret, "$" + secret + "$", "/*" + secret, "@" + secret, "SELECT @" + secret + "(", "-----BEGIN " + secret + "-----\nx\n",
		"E'" + secret, secret + ";" + secret, "COPY " + secret, "SET " + secret + " = 1", "BEGIN; " + secret,
	} {
		dir, elsewhere := t.TempDir(), t.TempDir()
		write(t, elsewhere, map[string]string{"secret": content})
		if err := os.Symlink(filepath.Join(elsewhere, "secret"), filepath.Join(dir, "innocent.sql")); err != nil {
			t.Fatal(err)
		}
		scripts, err := Load(dir, nil)
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q is told as %v", content, err)
		}
		if err == nil && len(scripts) != 1 {
			t.Errorf("%q is neither a script nor a fault", content)
		}
	}
}

// A few links make a few files any number: what is read of them is bounded, and the
// scripts that there were stay.
func TestLoadOfLinksWithoutEnd(t *testing.T) {
	t.Parallel()
	last := Scripts{"there": {}}
	for what, make := range map[string]func(dir string){
		"folders": func(dir string) {
			for i := range 40 {
				write(t, dir, map[string]string{fmt.Sprintf("d%d/a", i): fmt.Sprintf("-> ../d%d", i+1), fmt.Sprintf("d%d/b", i): fmt.Sprintf("-> ../d%d", i+1)})
			}
			write(t, dir, map[string]string{"d40/x.sql": "select 1"})
		},
		"bytes": func(dir string) {
			write(t, dir, map[string]string{"a.sql": "select 1 --" + strings.Repeat("x", 4<<20)})
			for i := range 100 {
				write(t, dir, map[string]string{fmt.Sprintf("l%d.sql", i): "-> a.sql"})
			}
		},
	} {
		dir := t.TempDir()
		make(dir)
		scripts, err := Load(dir, last)
		faults, _ := errors.AsType[Errors](err)
		if said := slices.ContainsFunc(faults, func(e *Error) bool { return strings.Contains(e.Msg, "passed over") }); !said || scripts["there"] == nil {
			t.Errorf("%s: %d scripts, %d faults, want one that says that there are too many, and the script that there was", what, len(scripts), len(faults))
		}
	}
}

// A file can become another one between the look at it and the reading.
func TestReadFileOfNoScript(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo, big := filepath.Join(dir, "fifo"), filepath.Join(dir, "big")
	err := errors.Join(syscall.Mkfifo(fifo, 0o644), os.WriteFile(big, nil, 0o644), os.Truncate(big, MaxBytes+1))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, big, "/dev/zero", dir} {
		if _, err := readFile(path); !errors.Is(err, errNoScript) {
			t.Errorf("readFile(%s) = %v, want %v", path, err, errNoScript)
		}
	}
}
