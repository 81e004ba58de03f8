//go:build !linux

package pgserver

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// childrenOf lists a process's children.
func childrenOf(parent int) ([]child, error) {
	out, err := exec.Command("ps", "-axo", "pid=,ppid=,stat=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes with ps: %w", err)
	}
	var children []child
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(f[0]); err == nil {
			children = append(children, child{pid: pid, dead: strings.HasPrefix(f[2], "Z")})
		}
	}
	return children, nil
}

// adoptOrphans does nothing: launchd waits for orphans.
func adoptOrphans() error { return nil }

func reap([]child) {}

// endOrphan ends the server of a data directory whose owner is gone. It asks
// ps whether the process is that server, since ids are used again.
func endOrphan(dataDir string) {
	status, err := readStatus(dataDir)
	if err != nil {
		return
	}
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(status.pid)).Output()
	if err == nil && strings.Contains(string(out), dataDir) {
		_ = syscall.Kill(status.pid, syscall.SIGQUIT) // a server already gone is what we want
	}
}
