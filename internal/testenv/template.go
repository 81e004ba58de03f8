package testenv

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"golang.org/x/sys/unix"
)

// A template is a data directory that every server of an installation starts
// from, made once for each user and installation and kept between runs in the
// system's temporary folder.
type template struct {
	dataDir  string
	password string
}

func loadTemplate(ctx context.Context, b pgserver.Binaries) (template, error) {
	version, err := b.Version(ctx)
	if err != nil {
		return template{}, err
	}
	cache, err := cacheDir()
	if err != nil {
		return template{}, err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return template{}, err
	}
	defer unlock()
	key := sha256.Sum256([]byte("1\x00" + b.Dir + "\x00" + version))
	dir := filepath.Join(cache, fmt.Sprintf("%x", key[:8]))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := makeTemplate(ctx, b, dir); err != nil {
			return template{}, fmt.Errorf("make a template data directory with %s: %w", version, err)
		}
	}
	password, err := os.ReadFile(filepath.Join(dir, "password"))
	if err != nil {
		return template{}, fmt.Errorf("read the template's password: %w", err)
	}
	return template{dataDir: filepath.Join(dir, "data"), password: string(password)}, nil
}

// makeTemplate fills dir in one step, so that a process killed on the way
// leaves no half of it.
func makeTemplate(ctx context.Context, b pgserver.Binaries, dir string) (err error) {
	unfinished, err := os.MkdirTemp(filepath.Dir(dir), "unfinished-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(unfinished) }()
	password := rand.Text()
	server, err := pgserver.Start(ctx, pgserver.Config{
		Binaries: b,
		Password: password,
		Settings: map[string]string{"fsync": "off"},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	if err := server.Stop(ctx); err != nil {
		return err
	}
	if err := pgserver.CopyDataDir(ctx, server.DataDir(), filepath.Join(unfinished, "data")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(unfinished, "password"), []byte(password), 0o600); err != nil {
		return err
	}
	return os.Rename(unfinished, dir)
}

// cacheDir makes a folder with a well-known name in a folder that everybody
// may write to, so it insists that the folder is this user's alone.
func cacheDir() (string, error) {
	dir := filepath.Join(templates, fmt.Sprintf("pgbridge-testenv-%d", os.Geteuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make a folder for template data directories: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("look at the folder for template data directories: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm() != 0o700 || int(owner.Uid) != os.Geteuid() {
		return "", fmt.Errorf("use %s for template data directories: it is not a folder of this user's alone; remove it or set TMPDIR", dir)
	}
	return dir, nil
}

// lock waits until no other process holds the lock.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return func() { f.Close() }, nil
}
