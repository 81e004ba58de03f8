package pgserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Ports are taken from below the ranges that Linux and macOS give to outgoing
// connections, so that no client holds the port of a stopped server when it
// starts again.
const (
	firstPort = 20000
	portCount = 12000
)

// handedOut are the ports that this process has tried: each once. The values keep
// their reservations.
var handedOut sync.Map

// FreePort returns a port of 127.0.0.1 on which nothing listens now, and never the same
// twice. Another process may take it before the caller does, but for those that share
// their ports.
func FreePort() (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(portCount)
		if _, before := handedOut.LoadOrStore(port, true); before {
			continue
		}
		if !reserved(port) {
			continue
		}
		taken, err := portTaken(port)
		if err != nil {
			return 0, err
		}
		if !taken {
			return port, nil
		}
	}
	return 0, errors.New("find a free port on 127.0.0.1: 1000 tries found none")
}

// reservations is where processes of the same user that share their ports lock files
// of their names.
func reservations() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("pgbridge-ports-%d", os.Getuid()))
}

// SharePorts has this process take no port that another one which called it, too, has
// from [FreePort], as long as that lives: its server may only be stopped. It leaves a
// folder with empty files behind.
func SharePorts() error { return os.MkdirAll(reservations(), 0o700) }

// reserved reports whether the port is this process's now: the kernel ends the lock on
// a file of the port's name with the process. Where nobody shares, each has what it asks
// for.
func reserved(port int) bool { return reserve(reservations(), port) }

func reserve(folder string, port int) bool {
	if !private(folder) {
		return true
	}
	file, err := os.OpenFile(filepath.Join(folder, strconv.Itoa(port)), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return true
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return !errors.Is(err, syscall.EWOULDBLOCK)
	}
	handedOut.Store(port, file) // open, and so locked, until the process ends
	return true
}

// private reports whether a path is a folder of this process's user that nobody else may
// write to. Anybody may have made one by the name of the reservations', full of links.
func private(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(owner.Uid) == os.Geteuid()
}

func portTaken(port int) (bool, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("try port %d: %w", port, err)
	}
	return false, l.Close()
}
