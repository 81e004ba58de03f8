package pgserver

import (
	"os"
	"path/filepath"
	"testing"
)

// linked makes a link that leads out of a folder, and returns where to: nothing is there.
func linked(t *testing.T, link string) (target string) {
	t.Helper()
	target = filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	return target
}

func untouched(t *testing.T, target string) {
	t.Helper()
	if _, err := os.Lstat(target); !os.IsNotExist(err) {
		t.Errorf("%s was written through a link (%v)", target, err)
	}
}

// The folder belongs to the user that the server runs as. Where that is another one than
// this process's, root, another process of that user's can put links into it.
func TestLinksOutOfTheServersFolderAreNotFollowed(t *testing.T) {
	t.Parallel()
	account, err := ServerAccount()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := newWorkDir(account)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dir.remove(); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(dir.data(), 0o700); err != nil {
		t.Fatal(err)
	}
	password := linked(t, filepath.Join(dir.path, "password"))
	config := linked(t, filepath.Join(dir.data(), "postgresql.conf"))
	file := linked(t, filepath.Join(dir.data(), "pg_hba.conf"))
	log := linked(t, filepath.Join(dir.path, logName))
	s := &Server{account: account, dir: dir}
	for what, do := range map[string]func() error{
		"the password":      func() error { return initDB(t.Context(), Binaries{}, account, dir, "postgres", "secret") },
		"the configuration": func() error { return configure(dir, map[string]string{"port": "1"}) },
		"another file":      func() error { return writeFiles(dir, map[string][]byte{"pg_hba.conf": []byte("x")}) },
		"the log":           func() error { return s.StartAgain(t.Context()) },
	} {
		if do() == nil {
			t.Errorf("%s: no error where a link leads out of the folder", what)
		}
	}
	for _, target := range []string{password, config, file, log} {
		untouched(t, target)
	}
}

// The folder's name is known, so another user of the machine can have made it first.
func TestReservationsOfAnotherUserAreNotUsed(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	target := linked(t, filepath.Join(folder, "20001"))
	elsewhere := filepath.Join(t.TempDir(), "folder")
	if err := os.Symlink(t.TempDir(), elsewhere); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{folder, elsewhere} {
		if !reserve(name, 20001) {
			t.Errorf("%s keeps a port from this process", name)
		}
	}
	untouched(t, target)
	untouched(t, filepath.Join(elsewhere, "20001"))
}
