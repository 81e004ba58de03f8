package pgserver

import (
	"errors"
	"fmt"
	"syscall"
)

// child is another process's child; a dead one is a zombie.
type child struct {
	pid  int
	dead bool
}

func kill(children []child) (living int, err error) {
	for _, c := range children {
		if c.dead {
			continue
		}
		living++
		if err := syscall.Kill(c.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return living, fmt.Errorf("kill process %d: %w", c.pid, err)
		}
	}
	return living, nil
}
