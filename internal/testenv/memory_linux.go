package testenv

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// roomy reports whether a folder is in memory, programs can be run from it, and
// it and the system have plenty of room.
func roomy(folder string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(folder, &fs) != nil || fs.Type != unix.TMPFS_MAGIC || fs.Flags&unix.ST_NOEXEC != 0 {
		return false
	}
	return float64(fs.Bavail)*float64(fs.Bsize) >= plenty && availableMemory() >= plenty
}

// availableMemory is what the system could hand out, in bytes; 0 where it does
// not say.
func availableMemory() int64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var kilobytes int64
	_, line, _ := strings.Cut(string(info), "MemAvailable:")
	if _, err := fmt.Sscan(line, &kilobytes); err != nil {
		return 0
	}
	return kilobytes << 10
}
