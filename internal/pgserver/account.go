package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// maxSocketPath is the shortest limit among the systems for a socket's path
// (macOS: 104 bytes with the final NUL).
const maxSocketPath = 103

// Account is the operating system's user that servers run as. The zero value
// is the user of this process.
type Account struct {
	name     string // empty: this process's own
	uid, gid int
}

// ServerAccount returns the user that servers run as: this process's own, or,
// for root, postgres or else nobody.
func ServerAccount() (Account, error) {
	if os.Geteuid() != 0 {
		return Account{}, nil
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return accountOf(u)
		}
	}
	return Account{}, fmt.Errorf("choose a user to run PostgreSQL: it refuses to run as root, and this machine has neither a user postgres nor nobody")
}

func accountOf(u *user.User) (Account, error) {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return Account{}, fmt.Errorf("read the id of user %s: %w", u.Username, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return Account{}, fmt.Errorf("read the group of user %s: %w", u.Username, err)
	}
	return Account{name: u.Username, uid: uid, gid: gid}, nil
}

// Command returns a command that runs as the account, in a process group of
// its own so that a terminal's Ctrl-C reaches only this process, in an
// environment without settings of this process's (PGDATA, LC_ALL). On Linux it
// dies with this process if it is started with StartProcess. dir is where it
// runs.
func (a Account) Command(dir, path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = sysProcAttr()
	if a.name != "" {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return cmd
}

// Own hands a folder with all it holds to the account.
func (a Account) Own(path string) error {
	if a.name == "" {
		return nil
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("hand files to user %s: %w", a.name, err)
	}
	return errors.Join(a.own(root), root.Close())
}

// own is Own for a folder that may be the account's already, whose other processes can
// put links to anywhere into it meanwhile.
func (a Account) own(root *os.Root) error {
	if a.name == "" {
		return nil
	}
	return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("hand files to user %s: %w", a.name, err)
		}
		return root.Lchown(path, a.uid, a.gid)
	})
}

// TempDir makes a folder that only the account can open, in the first
// temporary folder that it can reach and where a socket's path is not too long
// for the system. The pattern is that of os.MkdirTemp. The caller removes it.
func (a Account) TempDir(pattern string) (string, error) {
	parent, err := a.tempParent()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return "", fmt.Errorf("make a temporary folder: %w", err)
	}
	return dir, a.Own(dir)
}

func (a Account) tempParent() (string, error) {
	var faults []error
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		err := a.reach(filepath.Join(parent, "x"))
		if longest := filepath.Join(parent, workDirPattern+"1234567890", ".s.PGSQL.65535"); len(longest) > maxSocketPath {
			err = fmt.Errorf("the path of a socket in %s would be too long", parent)
		}
		if err == nil {
			return parent, nil
		}
		faults = append(faults, err)
	}
	return "", fmt.Errorf("choose a temporary folder: %w", errors.Join(faults...))
}

// reach says which folder keeps the account from a path. A path it does not
// own needs every folder above it to be open to all.
func (a Account) reach(path string) error {
	if a.name == "" {
		return nil
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("look at %s: %w", dir, err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("user %s cannot reach %s: folder %s is closed to it", a.name, path, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// A server lives in one folder, <temporary folder>/pgbridge-pg-*: data, log,
// socket, and a lock file that its owner holds locked for as long as it lives.
const workDirPattern = "pgbridge-pg-*"
