//go:build linux || darwin

package session

import (
	"net"
	"syscall"
)

// peek looks at what has arrived on an idle connection, without a round trip:
// nothing, as it should be; something, most often the server's last words; or
// its end. It does not wait for anybody who reads: pgconn leaves a goroutine in
// Read after it had to wait with a write.
func peek(conn net.Conn) arrival {
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = secured.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return arrivedUnknown
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return arrivedEnd
	}
	found := arrivedUnknown
	err = raw.Control(func(fd uintptr) { // Read would wait for the other reader
		var buffer [1]byte
		n, _, err := syscall.Recvfrom(int(fd), buffer[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case n > 0, err == syscall.EINTR:
			found = arrivedUnknown
		case err == syscall.EAGAIN:
			found = arrivedNothing
		default:
			found = arrivedEnd
		}
	})
	if err != nil {
		return arrivedEnd
	}
	return found
}
