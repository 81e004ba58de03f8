package pgserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// childrenOf lists a process's children.
func childrenOf(parent int) ([]child, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var children []child
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended since
		}
		if c, ok := parseStat(string(stat), parent); ok {
			children = append(children, c)
		}
	}
	return children, nil
}

// parseStat reads a line of /proc/PID/stat, "pid (name) state parent …",
// where the name may hold anything.
func parseStat(stat string, parent int) (c child, ok bool) {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return child{}, false
	}
	fields := strings.Fields(stat[end+1:])
	pid, err := strconv.Atoi(strings.TrimSpace(stat[:open]))
	if err != nil || len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
		return child{}, false
	}
	return child{pid: pid, dead: fields[0] == "Z" || fields[0] == "X"}, true
}

// adoptOrphans makes this process, instead of init, the parent of what its
// children leave behind: not every container's init waits for orphans.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt the children of killed processes: %w", err)
	}
	return nil
}

// reap waits for adopted processes that are dead.
func reap(dead []child) {
	for _, c := range dead {
		var status syscall.WaitStatus
		for {
			_, err := syscall.Wait4(c.pid, &status, 0, nil)
			if err != syscall.EINTR {
				break // ECHILD: its parent had waited for it
			}
		}
	}
}

// endOrphan has nothing to do here: the kernel ended the server with its owner.
func endOrphan(string) {}
