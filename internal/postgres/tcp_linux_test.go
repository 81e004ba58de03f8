package postgres

import (
	"context"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// What the connection string says of its sockets holds for both drivers.
func TestSocketSettings(t *testing.T) {
	t.Parallel()
	address, _ := accept(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	_, port, _ := net.SplitHostPort(address)
	base := "host=127.0.0.1 user=a sslmode=disable port=" + port
	for _, tt := range []struct {
		connString                     string
		on, idle, interval, count, own int
	}{
		{base, 1, 5, 5, 2, 0},
		{base + " keepalives_idle=7 keepalives_interval=8 keepalives_count=9 tcp_user_timeout=12345", 1, 7, 8, 9, 12345},
		{base + " keepalives=0", 0, -1, -1, -1, 0},
	} {
		s := mustParse(t, tt.connString, Options{})
		cc, err := s.ConnConfig(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		byPgx := func(ctx context.Context) (net.Conn, error) { return cc.DialFunc(ctx, "tcp", address) }
		d := mustTargets(t, s)[0].Dialer(t.Context(), "")
		defer d.Close()
		byPq := func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "", "") }
		for driver, dial := range map[string]func(context.Context) (net.Conn, error){"pgx": byPgx, "lib/pq": byPq} {
			conn, err := dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, o := range []struct {
				name                string
				level, option, want int
			}{
				{"keepalives", unix.SOL_SOCKET, unix.SO_KEEPALIVE, tt.on},
				{"keepalives_idle", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, tt.idle},
				{"keepalives_interval", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, tt.interval},
				{"keepalives_count", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, tt.count},
				{"tcp_user_timeout", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, tt.own},
			} {
				if got := socketOption(t, conn, o.level, o.option); o.want >= 0 && got != o.want {
					t.Errorf("%s: %s of %s = %d, want %d", tt.connString, o.name, driver, got, o.want)
				}
			}
		}
	}
}

func socketOption(t *testing.T, conn net.Conn, level, option int) (value int) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if fault := raw.Control(func(socket uintptr) { value, err = unix.GetsockoptInt(int(socket), level, option) }); fault != nil || err != nil {
		t.Fatal(fault, err)
	}
	return value
}
