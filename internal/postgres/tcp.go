package postgres

import (
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tcp is how the sockets of connections are set up: libpq's keywords, which pgx
// takes for settings of the server's and lib/pq does not know. Both dial through
// here. https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
type tcp struct {
	keepAlive   net.KeepAliveConfig
	userTimeout time.Duration // for sent data to be acknowledged; 0: the system's
}

// takeTCP takes the keywords out of the server's settings.
func takeTCP(params map[string]string) (t tcp, faults []error) {
	// An idle connection is probed, so that a dead link is noticed within 15 s.
	// The probes are the only sign of it while a query waits for its answer.
	t.keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2}
	take := func(name string, set func(n int)) {
		value, given := params[name]
		delete(params, name)
		if !given {
			return
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
		if err != nil {
			faults = append(faults, configFault(name, "it is not a whole number from 0 on"))
			return
		}
		set(int(n))
	}
	take("keepalives", func(n int) { t.keepAlive.Enable = n != 0 })
	take("keepalives_idle", func(n int) { t.keepAlive.Idle = secondsOrSystem(n) })
	take("keepalives_interval", func(n int) { t.keepAlive.Interval = secondsOrSystem(n) })
	take("keepalives_count", func(n int) {
		if t.keepAlive.Count = n; n == 0 {
			t.keepAlive.Count = -1
		}
	})
	take("tcp_user_timeout", func(n int) { t.userTimeout = time.Duration(n) * time.Millisecond })
	if t.userTimeout > 0 && !hasUserTimeout {
		faults = append(faults, configFault("tcp_user_timeout", "this operating system has none: remove it"))
	}
	return t, faults
}

// secondsOrSystem is what net.KeepAliveConfig makes of a number of seconds, where
// 0 means the system's own.
func secondsOrSystem(n int) time.Duration {
	if n == 0 {
		return -1
	}
	return time.Duration(n) * time.Second
}

// dialer opens sockets that are set up so.
func (t tcp) dialer() *net.Dialer {
	d := &net.Dialer{KeepAlive: -1, KeepAliveConfig: t.keepAlive}
	if t.userTimeout == 0 {
		return d
	}
	d.Control = func(network, _ string, c syscall.RawConn) (err error) {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		fault := c.Control(func(socket uintptr) { err = setUserTimeout(socket, t.userTimeout) })
		if fault != nil {
			return fault
		}
		return err
	}
	return d
}
