package postgres

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const hasUserTimeout = true

func setUserTimeout(socket uintptr, d time.Duration) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(socket), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())))
}
