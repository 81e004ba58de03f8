package pgserver

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// status is what a server writes about itself into postmaster.pid, line by
// line (PostgreSQL's src/include/utils/pidfile.h).
type status struct {
	pid   int
	shmID int  // id of its System V shared memory segment, 0 for none yet
	ready bool // it accepts connections
}

func readStatus(dataDir string) (status, error) {
	path := filepath.Join(dataDir, "postmaster.pid")
	content, err := os.ReadFile(path)
	if err != nil {
		return status{}, fmt.Errorf("read the server's state: %w", err)
	}
	return parseStatus(string(content))
}

func parseStatus(content string) (status, error) {
	lines := strings.Split(content, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return status{}, fmt.Errorf("read the server's state: process id %q: %w", lines[0], err)
	}
	s := status{pid: pid}
	if len(lines) > 6 {
		if key := strings.Fields(lines[6]); len(key) == 2 {
			s.shmID, _ = strconv.Atoi(key[1]) // half written: none yet
		}
	}
	s.ready = len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready"
	return s, nil
}

// tail returns the last lines of a log, at most 4 KiB.
func tail(log []byte) string {
	const limit = 4096
	if len(log) > limit {
		log = log[len(log)-limit:]
		if _, rest, ok := bytes.Cut(log, []byte("\n")); ok {
			log = rest
		}
	}
	return strings.TrimSpace(string(log))
}
