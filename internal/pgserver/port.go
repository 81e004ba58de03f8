package pgserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// Ports are taken from below the ranges that Linux and macOS give to outgoing
// connections, so that no client holds the port of a stopped server when it
// starts again.
const (
	firstPort = 20000
	portCount = 12000
)

// FreePort returns a port of 127.0.0.1 on which nothing listens now. Another
// process may take it before the caller does.
func FreePort() (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(portCount)
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
