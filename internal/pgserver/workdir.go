package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type workDir struct {
	path string
	lock *os.File
}

func newWorkDir(account Account) (*workDir, error) {
	parent, err := account.tempParent()
	if err != nil {
		return nil, err
	}
	sweep(parent, account)
	path, err := account.TempDir(workDirPattern)
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(path, "lock"), os.O_CREATE)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return &workDir{path: path, lock: lock}, nil
}

func (w *workDir) data() string { return filepath.Join(w.path, "data") }

func (w *workDir) log() string { return filepath.Join(w.path, "server.log") }

func (w *workDir) remove() error {
	removeSharedMemory(w.data())
	return errors.Join(os.RemoveAll(w.path), w.lock.Close())
}

// sweep removes the folders of owners that were killed. What it cannot lock
// belongs to an owner that lives. It leaves young ones alone, whose owners may
// be between making and locking them, and those of other users.
func sweep(parent string, account Account) {
	found, err := filepath.Glob(filepath.Join(parent, workDirPattern))
	if err != nil {
		return // only a malformed pattern, and this one is a constant
	}
	for _, path := range found {
		if !oldAndOurs(path, account) {
			continue
		}
		lock, err := lockFile(filepath.Join(path, "lock"), 0)
		if err != nil {
			continue
		}
		endOrphan(filepath.Join(path, "data"))
		_ = (&workDir{path: path, lock: lock}).remove() // the next Start tries again
	}
}

func oldAndOurs(path string, account Account) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	return int(owner.Uid) == os.Geteuid() || account.name != "" && int(owner.Uid) == account.uid
}

// lockFile opens and locks a file, without waiting. The system releases the
// lock when the process ends.
func lockFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// removeSharedMemory frees the System V segment that a killed server leaves
// behind; one that ended in order has removed it, and its postmaster.pid. A
// segment in use is somebody else's by now.
func removeSharedMemory(dataDir string) {
	status, err := readStatus(dataDir)
	if err != nil || status.shmID == 0 {
		return
	}
	var segment unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(status.shmID, unix.IPC_STAT, &segment); err != nil || segment.Nattch != 0 {
		return
	}
	_, _ = unix.SysvShmCtl(status.shmID, unix.IPC_RMID, nil) // already gone: as wanted
}
