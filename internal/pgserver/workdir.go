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

// workDir belongs to the account, whose other processes can put links to anywhere in
// it. So what this process does there, as root perhaps, it does through root.
type workDir struct {
	path string
	root *os.Root
	lock *os.File
}

func newWorkDir(account Account) (*workDir, error) {
	parent, err := account.tempParent()
	if err != nil {
		return nil, err
	}
	sweep(parent, account)
	path, err := os.MkdirTemp(parent, workDirPattern)
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	w, err := openWorkDir(path, os.O_CREATE)
	if err == nil {
		err = account.own(w.root)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return w, nil
}

// openWorkDir opens a folder and locks its lock file.
func openWorkDir(path string, flag int) (*workDir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the server's folder: %w", err)
	}
	lock, err := lockFile(root, flag)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &workDir{path: path, root: root, lock: lock}, nil
}

func (w *workDir) data() string { return filepath.Join(w.path, "data") }

// logName is the server's log in the folder.
const logName = "server.log"

func (w *workDir) remove() error {
	removeSharedMemory(w.data())
	return errors.Join(os.RemoveAll(w.path), w.lock.Close(), w.root.Close())
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
		w, err := openWorkDir(path, 0)
		if err != nil {
			continue
		}
		endOrphan(w.data())
		_ = w.remove() // the next Start tries again
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
func lockFile(root *os.Root, flag int) (*os.File, error) {
	f, err := root.OpenFile("lock", os.O_RDWR|unix.O_NOFOLLOW|flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
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
